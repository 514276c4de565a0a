"""Answers what a controller wants to know of this node.

The agent asks the controller for its questions and waits for one, so that it need listen nowhere
and the controller need not know where it is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol
from urllib.parse import quote

from ovsnet import logs
from ovsnet.cni.exchange import ExchangeError
from ovsnet.cni.tracked import MOST, Tracked, TrackedError

_log = logs.get("respondent")
_AGAIN = 1.0

PATIENCE = 30.0
"""Seconds that a controller may take to have a question; it answers after 20 that it has none."""


class Channel(Protocol):
    """Speaks with the controller; `Exchange` does. Raises ExchangeError."""

    def get(self, path: str) -> Any:
        """What is served there, or None."""

    def post(self, path: str, document: object) -> None:
        """Send a document."""

    def end(self) -> None:
        """Make the request that is under way fail, and every later one."""


class Respondent:
    """The thread that answers one controller. `connections` may raise TrackedError."""

    def __init__(
        self, node: str, target: str, channel: Channel, connections: Callable[[], Sequence[Tracked]]
    ) -> None:
        self._node = node
        self._log = _log.bind(controller=target)
        self._channel = channel
        self._connections = connections
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="respondent", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; a question that is waited for is not waited for any longer."""
        self._stopping.set()
        self._channel.end()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.respond()
            except ExchangeError as error:
                self._log.debug("no question from the controller", reason=error)
                self._stopping.wait(_AGAIN)
            except Exception:
                # One answer that fails is no reason to give none any more.
                self._log.exception("a question was not answered")
                self._stopping.wait(_AGAIN)

    def respond(self) -> None:
        """Wait for a question, and answer it.

        Raises:
            ExchangeError: the controller cannot be asked or told.
        """
        asked = self._channel.get(f"/requests?node={quote(self._node)}")
        if asked is None:
            return
        answer: dict[str, object] = {"node": self._node, "question": asked["question"]}
        if asked.get("want") != "connections":
            answer["error"] = f"its agent does not know what {asked.get('want')!r} is"
        else:
            answer |= self._told()
        self._channel.post("/connections", answer)

    def _told(self) -> dict[str, object]:
        try:
            found = self._connections()
        except TrackedError as error:
            return {"error": str(error)}
        return {"connections": found[:MOST], "cut": len(found) > MOST}
