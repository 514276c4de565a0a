"""A request for one object and its answer, read to the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Protocol

from ovsnet.api.connection import StalledError, UnreachableError
from ovsnet.api.decode import read_refusal


class NoAnswerError(Exception):
    """The API server gave no answer, or one that was not expected; the message has its words.

    Whether what was sent has been done is not known.
    """


class Answer(Protocol):
    """A response as `ovsnet.api.connection.Response` has it."""

    @property
    def status(self) -> int:
        """The HTTP status."""

    def chunks(self) -> Iterator[bytes]:
        """The body, as it comes."""

    def close(self) -> None:
        """Gives the connection up."""


class Server(Protocol):
    """Answers requests, as `ovsnet.api.connection.Connection` does."""

    def get(self, path: str, query: tuple[tuple[str, str], ...], silence: float) -> Answer:
        """Sends a GET; raises UnreachableError if there is no response."""

    def post(self, path: str, body: bytes, silence: float) -> Answer:
        """Creates an object; raises UnreachableError if there is no response."""

    def put(self, path: str, body: bytes, silence: float) -> Answer:
        """Replaces an object; raises UnreachableError if there is no response."""


def ask(send: Callable[[], Answer], *expected: int) -> tuple[int, bytes]:
    """Status and body of an answer that is a success, or has one of the other expected statuses.

    Raises:
        NoAnswerError: it has neither, or there is none.
    """
    try:
        with closing(send()) as answer:
            body = b"".join(answer.chunks())
    except (UnreachableError, StalledError) as error:
        raise NoAnswerError(str(error)) from None
    if 200 <= answer.status < 300 or answer.status in expected:
        return answer.status, body
    said = read_refusal(answer.status, body).message or "no reason given"
    raise NoAnswerError(f"the API server answers {answer.status}: {said}")
