"""The commands of `tests/conformance/run`, that begin nothing."""

from __future__ import annotations

import signal

import pytest

from tests.conformance import __main__ as commands


@pytest.fixture
def began(monkeypatch, tmp_path):
    """What the commands have begun to do; nothing of it is done."""
    found = []

    def begin(what):
        def act(*_, **__):
            found.append(what)
            raise SystemExit(0)

        return act

    monkeypatch.setattr(commands, "check_machine", lambda: None)
    monkeypatch.setattr(commands.programs, "cache", lambda: tmp_path)
    monkeypatch.setattr(commands.programs, "go", lambda: "go")
    monkeypatch.setattr(commands.programs, "cnitool", lambda: None)
    monkeypatch.setattr(commands, "_pytest", begin("tests"))
    monkeypatch.setattr(commands, "_upstream", begin("tests"))
    monkeypatch.setattr(commands.teardown, "down", lambda *_: None)
    monkeypatch.setattr(commands.clusters, "attach", begin("attach"))
    monkeypatch.setattr(commands.clusters, "up", begin("up"))
    monkeypatch.setattr(commands.clusters, "down", lambda *_: found.append("down"))
    monkeypatch.setattr(commands.network, "keep_logs", lambda _: tmp_path)
    before = signal.getsignal(signal.SIGTERM)
    yield found
    signal.signal(signal.SIGTERM, before)
