"""The demonstration's calls and conversations, in a network namespace that has nothing but lo.

TCP ports of lo: `OPEN` answers HTTP, `DEAF` is one whose packets are thrown away.
"""

from __future__ import annotations

import http.server
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from functools import partial
from http import HTTPStatus
from pathlib import Path

import pytest

from ovsnet.sandbox import netns
from ovsnet.sandbox.demo.forbidden import CallStream, Conversation
from ovsnet.sandbox.demo.knocking import knock
from ovsnet.sandbox.demo.pairs import Attempt, Place
from ovsnet.sandbox.demo.teller import wait
from ovsnet.sandbox.layout import NETNS_DIRECTORY

OPEN, REFUSING, DEAF = 8001, 8002, 8003


class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def drop(place: Path, port: int) -> None:
    """Throw away what comes for a port."""
    rules = f"add rule inet demo in tcp dport {port} drop"
    subprocess.run(
        ["ip", "netns", "exec", place.name, "nft", "-f", "-"], input=rules, text=True, check=True
    )


@pytest.fixture
def place() -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    path = NETNS_DIRECTORY / f"t{os.getpid()}demo"
    netns.create(path)
    try:
        chain = "add table inet demo; add chain inet demo in { type filter hook input priority 0; }"
        subprocess.run(
            ["ip", "netns", "exec", path.name, "nft", "-f", "-"], input=chain, text=True, check=True
        )
        drop(path, DEAF)
        server = netns.within(
            path, lambda: http.server.ThreadingHTTPServer(("127.0.0.1", OPEN), Answer)
        )
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield path
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
    finally:
        netns.delete(path)


def attempt(place: Path, port: int, address: str = "127.0.0.1") -> Attempt:
    end = Place("app", address, (address,))
    return Attempt(end, place, end, port, 4)


def test_who_answers_a_knock(place: Path) -> None:
    answering = attempt(place, OPEN)
    others = [
        attempt(place, REFUSING),
        attempt(place, DEAF),
        # There is no way to it.
        attempt(place, OPEN, "192.0.2.1"),
    ]
    assert knock([answering, *others], [answering]) == {answering}
    assert knock([answering, *others], []) == {answering}
    assert knock([], []) == frozenset()


def test_one_that_is_hoped_for_is_waited_for(place: Path) -> None:
    late = attempt(place, DEAF)
    flush = ["ip", "netns", "exec", place.name, "nft", "flush", "ruleset"]
    listener = netns.within(place, lambda: http.server.HTTPServer(("127.0.0.1", DEAF), Answer))
    try:
        timer = threading.Timer(2.0, lambda: subprocess.run(flush, check=True))
        timer.start()
        assert knock([late], [late]) == {late}
        timer.join()
    finally:
        listener.server_close()


def test_a_conversation_that_is_cut(place: Path) -> None:
    with Conversation("talk", place, ("127.0.0.1", OPEN)) as talk:
        assert wait(lambda: talk.answers > 2)
        assert not talk.over(0, time.monotonic()).passed
        answers = talk.answers
        assert wait(lambda: talk.answers > answers)
        assert not talk.over(answers, time.monotonic()).passed
        drop(place, OPEN)
        answers = _when_still(talk)
        check = talk.over(answers, time.monotonic())
        assert check.passed
        assert f"{answers} answers before, 0 in the" in check.seen


def _when_still(talk: Conversation) -> int:
    """How many answers there are when there is no new one for a while."""
    answers = talk.answers
    while wait(partial(_more, talk, answers), seconds=0.5):
        answers = talk.answers
    return answers


def _more(talk: Conversation, answers: int) -> bool:
    return talk.answers > answers


def test_a_conversation_that_nobody_enters(place: Path) -> None:
    with (
        pytest.raises(ConnectionRefusedError),
        Conversation("talk", place, ("127.0.0.1", REFUSING)),
    ):
        pass


@pytest.mark.parametrize(("port", "answered"), [(OPEN, True), (DEAF, False), (REFUSING, False)])
def test_calls_are_counted_with_those_that_are_answered(
    place: Path, port: int, answered: bool
) -> None:
    calls = CallStream("calls", place, ("127.0.0.1", port))
    calls.start()
    assert wait(lambda: calls.called > 2)
    found = calls.stop()
    assert found.called > 2
    assert found.answered == (found.called if answered else 0)
    assert found.check.passed is not answered
