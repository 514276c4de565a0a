"""`ovsnet sandbox` where there is no sandbox, no root and no kubectl."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ovsnet.cli import sandbox as cli
from ovsnet.sandbox import cluster, layout, plan, state
from ovsnet.sandbox.state import Opening, Phase


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.sandbox, arguments)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    def start(*_: object) -> None:
        pytest.fail("a sandbox was to be started")

    monkeypatch.setattr(layout, "RUN_DIRECTORY", tmp_path / "run")
    # Whoever runs these tests may have a sandbox of another sort in mind.
    for variable in (layout.INSTANCE_VARIABLE, layout.PROGRAMS_VARIABLE):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(cluster, "_start", start)
    return tmp_path / "run"


@pytest.fixture
def up() -> None:
    found = layout.layout()
    found.root.mkdir(parents=True)
    opening = Opening("2025-01-31T12:00:00Z", userspace=True, api_url="http://127.0.0.1:1")
    state.write(found, state.describe(found, plan.plan(2), opening, Phase.UP, {}))


COMMANDS = (
    ("up",), ("down",), ("status",), ("kubeconfig",), ("kubectl", "get", "pods"),
    ("exec", "a/b", "--", "true"), ("node-exec", "node1", "--", "true"),
    ("process", "kill", "x"), ("process", "start", "x"),
)  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_without_root_every_command_says_so(
    command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    result = run(*command)
    assert result.exit_code == 1
    assert "as root" in result.output


@pytest.mark.parametrize("command", COMMANDS[2:])
def test_without_a_sandbox_every_command_says_how_to_get_one(
    command: tuple[str, ...], elsewhere: Path
) -> None:
    result = run(*command)
    assert result.exit_code == (3 if command == ("status",) else 1)
    assert "ovsnet sandbox up" in result.output
    assert not elsewhere.exists()


def test_status_for_programs_without_a_sandbox() -> None:
    result = run("status", "--json")
    assert result.exit_code == 3
    assert json.loads(result.output) == {"phase": "down", "healthy": False}


def test_down_without_a_sandbox_succeeds_and_leaves_nothing(elsewhere: Path) -> None:
    result = run("down")
    assert result.exit_code == 0
    assert "no sandbox" in result.output
    assert not elsewhere.exists()


@pytest.mark.usefixtures("up")
def test_a_second_up() -> None:
    result = run("up")
    assert result.exit_code == 1
    assert "2 nodes has been running since 2025-01-31T12:00:00Z" in result.output


def test_a_number_of_nodes_that_cannot_be() -> None:
    result = run("up", "--nodes", "0")
    assert result.exit_code == 2
    assert "1 to 64 nodes, not 0" in result.output


def test_programs_that_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster.shutil, "which", lambda name: None if "ovs" in name else name)
    result = run("up")
    assert result.exit_code == 1
    assert "not installed: ovsdb-server, ovs-vswitchd, ovs-vsctl" in result.output
    assert "apt-get install openvswitch-switch" in result.output


@pytest.mark.usefixtures("up")
def test_kubectl_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli.shutil, "which", lambda name: None)
    result = run("kubectl", "get", "pods")
    assert result.exit_code == 1
    assert "kubectl is not installed" in result.output
    assert "kubeconfig" in result.output


@pytest.mark.usefixtures("up")
def test_kubectl_gets_every_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    monkeypatch.setattr(cli.shutil, "which", lambda name: "/usr/bin/kubectl")
    monkeypatch.setattr(os, "execve", lambda *call: seen.append(call))
    run("kubectl", "get", "--help", "-A", "--", "x")
    ((program, arguments, environment),) = seen  # type: ignore[misc]
    assert program == "/usr/bin/kubectl"
    assert arguments == ["kubectl", "get", "--help", "-A", "--", "x"]
    assert environment["KUBECONFIG"].endswith("/sandbox/kubeconfig")


@pytest.mark.usefixtures("up")
@pytest.mark.parametrize("pod", ["web", "/web", "shop/"])
def test_a_pod_without_its_namespace(pod: str) -> None:
    result = run("exec", pod, "--", "true")
    assert result.exit_code == 2
    assert "NAMESPACE/POD" in result.output


@pytest.mark.usefixtures("up")
def test_a_node_that_is_not_there() -> None:
    result = run("node-exec", "node9", "--", "true")
    assert result.exit_code == 1
    assert "node1, node2" in result.output


def test_every_command_has_help() -> None:
    for command in cli.sandbox.commands.values():
        assert command.help
        assert len(command.get_short_help_str()) > 10
