"""The stub against an agent that answers well, badly, in part, late, or not at all."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ovsnet.cni import install, stub
from ovsnet.cni.server import Call, Server, parse_request

CONF = b'{"cniVersion":"0.4.0","name":"ovsnet","type":"ovsnet"}'
ENVIRONMENT = {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": "c1", "CNI_NETNS": "/proc/self/ns/net"}


@pytest.fixture
def execute(tmp_path: Path) -> Callable[..., tuple[int, dict]]:
    """Runs the stub as the runtime does, with an agent's socket at `tmp_path / agent.sock`."""
    plugin = tmp_path / "ovsnet"
    text = install.plugin_text(sys.executable, str(tmp_path / "agent.sock"), 0.5)
    install.write(plugin, text, 0o755)

    def run(conf: bytes = CONF, **environment: str) -> tuple[int, dict]:
        done = subprocess.run(
            [plugin], env=ENVIRONMENT | environment, input=conf, capture_output=True, check=False
        )
        assert not done.stderr, done.stderr.decode()
        return done.returncode, json.loads(done.stdout)

    return run


class Agent(threading.Thread):
    """Takes one call and sends raw bytes; None: keeps the caller waiting."""

    def __init__(self, path: Path, answer: bytes | None) -> None:
        super().__init__(daemon=True)
        self._answer = answer
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._waiting: list[socket.socket] = []

    def run(self) -> None:
        connection, _ = self._listener.accept()
        while connection.recv(65536):
            pass
        if self._answer is None:
            self._waiting.append(connection)
            return
        connection.sendall(self._answer)
        connection.close()


@pytest.fixture
def agent(tmp_path: Path) -> Callable[[bytes | None], None]:
    started = []

    def start(answer: bytes | None) -> None:
        started.append(Agent(tmp_path / "agent.sock", answer))
        started[-1].start()

    return start


def test_the_answer_and_the_status_are_passed_on(execute, agent):
    agent(b'1 10\n{"code":4}')
    assert execute() == (1, {"code": 4})


@pytest.mark.parametrize(
    "answer", [b"", b"0", b"0 ", b"0 9", b"0 9\n", b"0 9\n{}", b"nonsense\n", b"x y\n"]
)
def test_an_agent_that_ends_in_the_middle(execute, agent, answer: bytes):
    agent(answer)
    status, error = execute()
    assert (status, error["code"], error["cniVersion"]) == (1, 11, "0.4.0")
    assert "ended before it answered" in error["msg"]


def test_an_agent_that_does_not_answer(execute, agent):
    agent(None)
    status, error = execute()
    assert (status, error["code"]) == (1, 11)
    assert "did not answer within 0.5 s" in error["msg"]


def test_no_agent(execute):
    status, error = execute()
    assert (status, error["code"], error["cniVersion"]) == (1, 11, "0.4.0")
    assert "not running" in error["msg"]


def test_no_agent_and_no_configuration_either(execute):
    status, error = execute(conf=b"{")
    assert (status, error["cniVersion"]) == (1, "1.1.0")


def test_version_needs_no_agent(execute):
    assert execute(CNI_COMMAND="VERSION") == (
        0,
        {"cniVersion": "0.4.0", "supportedVersions": list(stub.VERSIONS)},
    )


def test_the_server_gets_what_the_stub_was_given(execute, tmp_path: Path):
    calls: list[Call] = []

    def answer(call: Call) -> tuple[int, bytes]:
        calls.append(call)
        assert call.namespace is not None
        own = Path("/proc/self/ns/net").stat()
        assert os.fstat(call.namespace).st_ino == own.st_ino
        return 0, b'{"fine": true}'

    server = Server(tmp_path / "agent.sock", answer)
    server.start()
    try:
        large = CONF + b" " * 300_000
        assert execute(conf=large, CNI_ARGS="A=1;B=ü") == (0, {"fine": True})
    finally:
        server.stop()
    assert calls[0].stdin == large
    assert calls[0].environment == ENVIRONMENT | {"CNI_ARGS": "A=1;B=ü"}
    assert not (tmp_path / "agent.sock").exists()


def test_a_second_server_is_refused_and_a_dead_ones_socket_taken_over(tmp_path: Path):
    path = tmp_path / "agent.sock"
    first = Server(path, lambda call: (0, b""))
    first.start()
    with pytest.raises(OSError, match="another agent"):
        Server(path, lambda call: (0, b""))
    first.stop()
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(path))
    dead.close()
    third = Server(path, lambda call: (0, b""))
    third.start()
    third.stop()


NAMES = st.text(st.characters(codec="ascii", exclude_characters="=\0"), max_size=5)
VALUES = st.binary(max_size=20).map(lambda value: value.replace(b"\0", b""))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(NAMES.map(lambda n: b"CNI_" + n.encode()), VALUES), st.binary())
def test_what_is_sent_is_what_is_read(variables: dict[bytes, bytes], conf: bytes):
    class Connected:
        """The socket of an agent that answers at once."""

        def __init__(self, *_: object) -> None:
            self.sent = b""

        def settimeout(self, _: float) -> None: ...
        def connect(self, _: str) -> None: ...

        def sendmsg(self, parts: list[bytes], _: object) -> int:
            self.sent = parts[0]
            read.append(self.sent)
            return len(parts[0])

        def shutdown(self, _: int) -> None: ...

        def recv(self, _: int) -> bytes:
            return answers.pop(0)

    read: list[bytes] = []
    answers = [b"0 2\n{}", b""]
    original, stub._socket.socket = stub._socket.socket, Connected
    try:
        variables.pop(b"CNI_NETNS", None)
        assert stub.exchange("/x", 1, variables, conf) == (0, b"{}")
    finally:
        stub._socket.socket = original
    environment, stdin = parse_request(read[0])
    assert stdin == conf
    assert environment == {k.decode(): v.decode(errors="replace") for k, v in variables.items()}
