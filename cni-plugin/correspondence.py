"""The agent's dealings with all controllers: a reporter and a respondent for each, which come and
go with them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Protocol

from ovsnet.cni.stampwatch import Stamp


class Correspondent(Protocol):
    """Deals with one controller in a thread of its own; `Reporter` and `Respondent` do."""

    def start(self) -> None:
        """Begin."""

    def stop(self) -> None:
        """End; what is on its way may or may not arrive."""


class Teller(Correspondent, Protocol):
    """Tells a controller what is in effect; `Reporter` does."""

    def settled(self, stamp: Stamp | None) -> None:
        """Report this from now on; None: report nothing."""


class Correspondence:
    """Those of all controllers. Its methods may be called from any thread."""

    def __init__(
        self, teller: Callable[[str], Teller], respondent: Callable[[str], Correspondent]
    ) -> None:
        """Both are made, not yet started, of a controller's URL."""
        self._teller = teller
        self._respondent = respondent
        self._lock = threading.Lock()
        self._with: dict[str, tuple[Teller, Correspondent]] = {}
        self._stamp: Stamp | None = None
        self._stopped = False

    def keep(self, urls: Iterable[str]) -> None:
        """Deal with these controllers and no others."""
        wanted = set(urls)
        with self._lock:
            if self._stopped:
                return
            gone = [self._with.pop(url) for url in self._with.keys() - wanted]
            for url in sorted(wanted - self._with.keys()):
                teller, respondent = self._teller(url), self._respondent(url)
                self._with[url] = teller, respondent
                teller.settled(self._stamp)
                teller.start()
                respondent.start()
        _end(gone)

    def settled(self, stamp: Stamp | None) -> None:
        """Have all controllers told this from now on; None: nothing."""
        with self._lock:
            self._stamp = stamp
            for teller, _ in self._with.values():
                teller.settled(stamp)

    def stop(self) -> None:
        """End all."""
        with self._lock:
            self._stopped = True
            gone = list(self._with.values())
            self._with.clear()
        _end(gone)


def _end(gone: Iterable[tuple[Teller, Correspondent]]) -> None:
    for teller, respondent in gone:
        teller.stop()
        respondent.stop()
