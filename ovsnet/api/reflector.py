"""The state machine that keeps up with one kind of objects; it does no input or output.

    step = reflector.next()                       # a Get to send, or a time to Wait
    notices = reflector.answered(status, now)     # a response began,
    notices = reflector.data(chunk, now)          #   brought some bytes,
    notices = reflector.ended(now)                #   and is complete;
    notices = reflector.stalled(now)              # or nothing came for too long
    notices = reflector.failed(reason, now)       # or there was none, or it broke off

It lists in pages, watches from the list's resourceVersion, resumes a watch where it was cut, and
lists again when the server has forgotten that place (410 Gone). See "Efficient detection of
changes" in the Kubernetes API concepts.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import Generic, TypeAlias

import msgspec

from ovsnet.api.decode import (
    Bookmark,
    Happened,
    Line,
    Read,
    Refused,
    UnreadableError,
    Unusable,
    read_line,
    read_page,
    read_refusal,
)
from ovsnet.api.events import Event, Fresh, Malformed, Note, Rewound, Stale
from ovsnet.api.objects import Kind, ValueT, WireT
from ovsnet.api.view import View

_OK = 200
_GONE = 410
_SAME_AGAIN = frozenset({401, 403, 408, 429, 502, 503})
"""After these the same request is right again; any other puts the place in history in doubt."""


class Timing(msgspec.Struct, frozen=True):
    """How long things take: seconds, but for `page`, the number of objects in a page of a list."""

    watch: float = 300.0
    """The server is asked to end a watch after this to twice this."""
    stall: float = 150.0
    """A watch that brings nothing is cut; kube-apiserver sends a bookmark a minute."""
    response: float = 60.0
    """A list that brings nothing has failed."""
    brief: float = 1.0
    """A watch that ends sooner and brings nothing new has failed."""
    backoff: float = 0.2
    """The n-th retry comes after half to all of this, times 2 to the power of n-1."""
    backoff_most: float = 30.0
    """No retry waits longer, unless the server asks for it."""
    rewind: float = 300.0
    """So long a list older than what was seen is held for a lagging replica's."""
    page: int = 500


class Get(msgspec.Struct, frozen=True):
    """A request to send. It has stalled if no byte comes for `silence` seconds."""

    path: str
    query: tuple[tuple[str, str], ...]
    silence: float


class Wait(msgspec.Struct, frozen=True):
    """Nothing to do for so many seconds."""

    seconds: float


Step: TypeAlias = Get | Wait
Notice: TypeAlias = Event | Note


class _Goal(Enum):
    LIST = auto()
    WATCH = auto()


class _Request(Enum):
    NONE = auto()
    SENT = auto()
    ANSWERED = auto()


class _FailureError(Exception):
    def __init__(self, reason: str, *, relist: bool, late: float = 0.0) -> None:
        super().__init__(reason)
        self.relist = relist
        self.late = late


class _GoneError(Exception):
    """The server no longer knows the place from which we asked it to go on."""


class Reflector(Generic[WireT, ValueT]):
    """Follows the objects of one kind.

    `random` yields numbers from 0 to 1; `now` is in seconds of any one clock; `field_selector`
    narrows the objects down, as in `metadata.name=node-1`, and so does `label_selector`.
    """

    def __init__(
        self,
        kind: Kind[WireT, ValueT],
        timing: Timing,
        random: Callable[[], float],
        now: float,
        field_selector: str = "",
        label_selector: str = "",
    ) -> None:
        self._kind = kind
        self._timing = timing
        self._random = random
        selectors = (("fieldSelector", field_selector), ("labelSelector", label_selector))
        self._selector = tuple(each for each in selectors if each[1])
        self._view: View[ValueT] = View(kind)
        self._goal = _Goal.LIST
        self._request = _Request.NONE
        self._seen = 0
        self._wanted = self._list_wanted = self._asked = 0
        self._pages: list[Read[ValueT]] = []
        self._list_version = 0
        self._continue = ""
        self._older_since: float | None = None
        self._buffer = bytearray()
        self._status = 0
        self._retry_after = 0.0
        self._began = now
        self._seen_at_begin = 0
        self._contact = now
        self._stale = False
        self._failures = 0
        self._wait = 0.0

    @property
    def reached(self) -> int:
        """The version up to which everything has been told; 0 before the first list."""
        return self._seen

    @property
    def wanted(self) -> int:
        """The last number given to `refresh`."""
        return self._wanted

    @property
    def asked(self) -> int:
        """The last number given to `refresh` before the list began that the view stands on."""
        return self._asked

    def refresh(self, number: int) -> None:
        """Begin with a list again, unless that was asked for with this number before."""
        if number > self._wanted:
            self._wanted = number
            if self._goal is _Goal.WATCH:
                self._relist()

    def interrupted(self) -> None:
        """The response was cut on purpose."""
        self._request = _Request.NONE

    def next(self) -> Step:
        """What to do now."""
        if self._wait > 0:
            wait, self._wait = self._wait, 0.0
            return Wait(wait)
        self._buffer.clear()
        self._request = _Request.SENT
        if self._goal is _Goal.LIST:
            query = [("limit", str(self._timing.page))]
            if self._continue:
                query.append(("continue", self._continue))
            else:
                self._list_wanted = self._wanted
            return Get(self._kind.path, (*self._selector, *query), self._timing.response)
        seconds = self._timing.watch * (1 + self._random())
        query = [
            ("watch", "true"),
            ("allowWatchBookmarks", "true"),
            ("resourceVersion", str(self._seen)),
            ("timeoutSeconds", str(int(seconds))),
        ]
        return Get(self._kind.path, (*self._selector, *query), self._timing.stall)

    @property
    def done(self) -> bool:
        """Whether the rest of the current response is of no use: cut it and go on with `next`."""
        return self._request is _Request.NONE

    def answered(self, status: int, now: float, retry_after: float = 0.0) -> tuple[Notice, ...]:
        """A response began; `retry_after` is how long the server asks to be left alone."""
        self._request = _Request.ANSWERED
        self._status = status
        self._retry_after = retry_after
        self._began = now
        self._seen_at_begin = self._seen
        if status == _OK and self._goal is _Goal.WATCH:
            self._contact = now
            return self._fresh()
        return ()

    def data(self, chunk: bytes, now: float) -> tuple[Notice, ...]:
        """Some bytes of the response's body."""
        if self.done:
            return ()
        self._buffer += chunk
        if self._status != _OK or self._goal is _Goal.LIST:
            return ()
        self._contact = now
        *lines, rest = bytes(self._buffer).split(b"\n")
        self._buffer[:] = rest
        notices: list[Notice] = []
        for line in lines:
            try:
                notices.extend(self._told(read_line(self._kind, line)))
            except (_FailureError, _GoneError, UnreadableError) as wrong:
                # What follows on this connection continues a story that we lost.
                return (*notices, *self._over(wrong, now))
        return tuple(notices)

    def ended(self, now: float) -> tuple[Notice, ...]:
        """The response is complete. A last line without its line end is of no account."""
        if self.done:
            return ()
        try:
            if self._status != _OK:
                self._refused(read_refusal(self._status, bytes(self._buffer)))
            if self._goal is _Goal.LIST:
                notices = self._page(bytes(self._buffer), now)
                self._request = _Request.NONE
                return notices
            if not self._was_of_use(now):
                raise _FailureError("the watch ended as soon as it began", relist=False)
        except (_FailureError, _GoneError, UnreadableError) as wrong:
            return self._over(wrong, now)
        self._request = _Request.NONE
        self._failures = 0
        if now - self._began < self._timing.brief:
            self._wait = self._backoff(1)
        return ()

    def stalled(self, now: float) -> tuple[Notice, ...]:
        """Nothing came for the time that the `Get` names. A watch is resumed without ado."""
        if self._goal is _Goal.WATCH and self._request is _Request.ANSWERED:
            self._request = _Request.NONE
            self._failures = 0
            return ()
        return self.failed("no answer in time", now)

    def failed(self, reason: str, now: float) -> tuple[Notice, ...]:
        """There was no response, or it broke off."""
        if self.done:
            return ()
        return self._over(_FailureError(reason, relist=False), now)

    def distrusted(self, reason: str, now: float) -> tuple[Notice, ...]:
        """The consumer may not have taken what it was told: begins with a list again."""
        return self._over(_FailureError(reason, relist=True), now)

    # Failures.

    def _over(self, wrong: Exception, now: float) -> tuple[Notice, ...]:
        """Ends the current request; decides what comes next, and when."""
        if self._request is _Request.ANSWERED and self._was_of_use(now):
            self._failures = 0
        self._request = _Request.NONE
        self._failures += 1
        if isinstance(wrong, _GoneError):
            self._relist()
            self._wait = self._backoff(self._failures - 1)
            return ()
        failure = (
            wrong if isinstance(wrong, _FailureError) else _FailureError(str(wrong), relist=True)
        )
        if failure.relist:
            self._relist()
        self._wait = max(self._backoff(self._failures), failure.late)
        if self._stale:
            return ()
        self._stale = True
        return (Stale(self._kind, self._contact, str(wrong)),)

    def _was_of_use(self, now: float) -> bool:
        """Whether the current response is a watch that lived, or brought something new."""
        if self._goal is not _Goal.WATCH or self._status != _OK:
            return False
        return self._seen > self._seen_at_begin or now - self._began >= self._timing.brief

    def _backoff(self, failures: int) -> float:
        if failures == 0:
            return 0.0
        most = min(self._timing.backoff * 2.0 ** min(failures - 1, 30), self._timing.backoff_most)
        return most * (0.5 + 0.5 * self._random())

    def _relist(self) -> None:
        self._goal = _Goal.LIST
        self._continue = ""
        self._pages = []

    def _refused(self, refused: Refused) -> None:
        if refused.code == _GONE:
            raise _GoneError
        words = f"the API server answers {refused.code}: {refused.message or 'no reason given'}"
        again = refused.code in _SAME_AGAIN
        raise _FailureError(words, relist=not again, late=self._retry_after)

    def _fresh(self) -> tuple[Fresh, ...]:
        if not self._stale:
            return ()
        self._stale = False
        return (Fresh(self._kind),)

    # Lists.

    def _page(self, body: bytes, now: float) -> tuple[Notice, ...]:
        page = read_page(self._kind, body)
        # Every page is of the first one's version. Should that not hold, the lowest one is safe:
        # the watch from there repeats what is known already, and misses nothing.
        later = bool(self._continue)
        self._list_version = min(self._list_version, page.version) if later else page.version
        self._pages.extend(page.objects)
        self._continue = page.next
        self._contact = now
        notes = tuple(self._malformed(unusable) for unusable in page.unusable)
        if self._continue:
            return notes
        return (*notes, *self._listed(now))

    def _listed(self, now: float) -> tuple[Notice, ...]:
        notes: tuple[Rewound, ...] = ()
        version = self._list_version
        if version < self._seen:
            since = self._older_since if self._older_since is not None else now
            self._older_since = since
            if now - since < self._timing.rewind:
                words = f"the list is of version {version}, older than {self._seen} seen before"
                raise _FailureError(words, relist=True)
            notes = (Rewound(self._kind, self._seen, version),)
        self._older_since = None
        self._seen = version
        self._asked = self._list_wanted
        synced = self._view.replaced(self._pages, version)
        self._pages = []
        self._goal = _Goal.WATCH
        if self._wanted > self._asked:
            # Asked for while this list was on its way, which may not have what was written since.
            self._relist()
        return (*notes, *self._fresh(), *synced)

    # Watches.

    def _told(self, line: Line[ValueT]) -> tuple[Notice, ...]:
        if isinstance(line, Happened):
            self._seen = max(self._seen, line.object.version)
            return self._view.happened(line)
        if isinstance(line, Bookmark):
            self._seen = max(self._seen, line.version)
            self._view.complete(line.version)
            return ()
        if isinstance(line, Unusable):
            return (self._malformed(line),)
        self._refused(line)
        return ()

    def _malformed(self, unusable: Unusable) -> Malformed:
        problem = unusable.problem
        return Malformed(self._kind, unusable.name, problem.field, problem.reason)
