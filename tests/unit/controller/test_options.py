"""The controller's options: on the command line, in a file, and explained."""

from __future__ import annotations

import tomllib

import click
import pytest
from click.testing import CliRunner

from ovsnet.controller import options
from ovsnet.controller.__main__ import main as controller


@click.command()
@click.option(
    "--config", is_eager=True, expose_value=False, callback=options.read, type=click.Path()
)
@click.option("--listen-at", "where", multiple=True, default=["a"], help="Where.")
@click.option("--number", type=click.IntRange(min=1), default=3, help="How many.")
@click.option("--name", envvar="OPTION_NAME", help="Its name.")
@click.option("--quick", is_flag=True, help="Be quick.")
def command(*, where, number, name, quick):
    click.echo(repr((where, number, name, quick)))


@pytest.fixture
def run(tmp_path):
    def execute(text, *arguments, **environment):
        file = tmp_path / "options.toml"
        file.write_text(text)
        return CliRunner().invoke(command, ["--config", str(file), *arguments], env=environment)

    # click hands on a path of its type; the controller's is pathlib's.
    command.params[0].type = click.Path(path_type=type(tmp_path))
    return execute


def test_what_the_file_says_is_what_is_used(run):
    result = run('listen_at = ["x", "y"]\nnumber = 7\nname = "n"\nquick = true\n')
    assert result.output == "(('x', 'y'), 7, 'n', True)\n"
    assert run("").output == "(('a',), 3, None, False)\n"


def test_the_command_line_goes_before_the_environment_and_that_before_the_file(run):
    assert "'line'" in run('name = "file"', "--name", "line", OPTION_NAME="environment").output
    assert "'environment'" in run('name = "file"', OPTION_NAME="environment").output
    assert "'file'" in run('name = "file"').output


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nmae = 1", "no such option: nmae"),
        ("where = ['x']", "no such option: where"),
        ("config = 'x'", "no such option: config"),
        ("number = 0", "number"),
        ("number = 'x'", "number"),
        ("number = ", "Invalid value"),
        ("\xff", "Invalid"),
    ],
)
def test_a_wrong_file_ends_it_and_says_what_is_wrong(run, text, words):
    result = run(text)
    assert result.exit_code == 2
    assert words in result.output


def test_a_file_that_is_not_there(tmp_path):
    result = CliRunner().invoke(controller, ["--config", str(tmp_path / "none")])
    assert result.exit_code == 2
    assert "No such file" in result.output


def test_what_is_explained_is_a_file_that_can_be_used(tmp_path):
    explained = CliRunner().invoke(controller, ["--explain-config"])
    assert explained.exit_code == 0
    values = tomllib.loads(explained.output)
    assert values["lease_duration"] == 3
    assert "# lease =" in explained.output
    assert "# None" not in explained.output, "every option has its meaning"
    file = tmp_path / "controller.toml"
    file.write_text(explained.output)
    result = CliRunner().invoke(controller, ["--config", str(file), "--lease", "x"])
    assert "expected NAMESPACE/NAME" in result.output


def test_a_lease_must_be_renewed_often_enough(tmp_path):
    arguments = ["--kubeconfig", str(tmp_path / "k"), "--lease", "a/b", "--lease-renew", "2"]
    (tmp_path / "k").write_text(KUBECONFIG)
    result = CliRunner().invoke(controller, arguments)
    assert result.exit_code == 2
    assert "less than half of --lease-duration" in result.output


KUBECONFIG = """
apiVersion: v1
kind: Config
clusters: [{name: x, cluster: {server: "http://127.0.0.1:1"}}]
contexts: [{name: x, context: {cluster: x, user: x}}]
users: [{name: x, user: {}}]
current-context: x
"""
