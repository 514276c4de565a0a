"""The commands of `tests/conformance/run`: what each asks for before it begins."""

from __future__ import annotations

import shutil

import pytest
from click.testing import CliRunner

from tests.conformance import __main__ as commands
from tests.conformance.programs import CANNOT_RUN, MissingError

OF_A_CLUSTER = {"etcd", "mmdebstrap", "buildah", "busybox"}


def without(monkeypatch, programs):
    """These programs are not installed, and all others are."""
    monkeypatch.setattr(shutil, "which", lambda name: None if name in programs else f"/bin/{name}")


def run(*arguments):
    return CliRunner().invoke(commands.main, arguments)


def test_cnitool_needs_nothing_of_a_cluster(began, monkeypatch):
    without(monkeypatch, OF_A_CLUSTER)
    assert run("cnitool").exit_code == 0
    assert began == ["tests"]


@pytest.mark.parametrize("program", ["nsenter", "unshare", "iptables", "tc", "ping"])
def test_cnitool_says_what_it_lacks(began, monkeypatch, program):
    without(monkeypatch, {program})
    result = run("cnitool")
    assert result.exit_code == CANNOT_RUN
    assert f"cannot run: not installed: {program}; apt-get install" in result.output
    assert began == []


@pytest.mark.parametrize("command", ["up", "quick", "life", "upstream", "burst"])
@pytest.mark.parametrize("program", sorted(OF_A_CLUSTER | {"nsenter"}))
def test_what_runs_on_a_cluster_says_what_that_lacks(began, monkeypatch, command, program):
    without(monkeypatch, {program})
    result = run(command)
    assert result.exit_code == CANNOT_RUN
    assert f"not installed: {program}" in result.output
    assert began == []


@pytest.mark.parametrize("command", ["up", "quick", "life", "upstream", "burst"])
def test_what_runs_on_a_cluster_begins_where_all_is_there(began, monkeypatch, command):
    without(monkeypatch, set())
    assert run(command).exit_code == 0
    assert began == ["attach"]


def test_a_cluster_can_be_taken_away_without_what_it_was_made_with(began, monkeypatch):
    def no_go():
        raise MissingError("Go is not installed")

    monkeypatch.setattr(commands.programs, "go", no_go)
    without(monkeypatch, OF_A_CLUSTER)
    assert run("down").exit_code == 0
    assert began == ["down"]
    assert run("cnitool").exit_code == CANNOT_RUN
