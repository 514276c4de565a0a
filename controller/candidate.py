"""Has this controller elected: a thread that reads and writes the Lease as the elector says.

It takes part once the cluster is known, so that nobody leads who could not. At the end it gives the
Lease back, and another takes over at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

from ovsnet import logs
from ovsnet.api.lease import ConflictError, Lease, LeaseError
from ovsnet.controller.leadership import (
    Elector,
    Look,
    Standing,
    Terms,
    Wait,
    Write,
    is_later,
    outbidding,
)
from ovsnet.controller.notices import Admitted, Fenced, Lost
from ovsnet.controller.results import Departed, Leads, Ready, Result
from ovsnet.controller.status import Leadership


class Store(Protocol):
    """Where the Lease is; `ovsnet.api.lease.LeaseStore` is one."""

    @property
    def name(self) -> str:
        """The Lease's namespace and name, with a slash between them."""

    def read(self) -> Lease | None:
        """The Lease as it is; raises LeaseError if that is not known."""

    def write(self, lease: Lease) -> Lease:
        """Replaces a version; raises ConflictError if it is not the present one, or LeaseError."""


def identity_of(pod: str, address: str, number: str) -> str:
    """How a controller is called in the Lease: its pod's name, for people and for `kubectl exec`,
    where it is, and a number that no other has, not even the same pod's next process.
    """
    return "_".join(part for part in (pod, address, number) if part)


class Alone:
    """In the place of a candidate where there is no election: leads, under a fixed term."""

    def __init__(self, term: int) -> None:
        self._term = term

    def term(self) -> int | None:
        """The term."""
        return self._term

    def leadership(self) -> Leadership | None:
        """There is nothing to be said."""
        return None

    def __call__(self, result: Result) -> None:
        """Nothing that happens changes it."""

    def refresh(self) -> None:
        """Nor does time."""

    def stop(self) -> None:
        """There is nobody to hand over to."""


class Candidate:
    """Takes part in the election. As a watcher of the loop it sees the cluster become known, and
    switches that refuse our term. `changed` is called, in any thread, when we are to lead or not.
    """

    def __init__(
        self,
        identity: str,
        terms: Terms,
        store: Store,
        clock: Callable[[], float],
        changed: Callable[[], None],
    ) -> None:
        self._identity = identity
        self._terms = terms
        self._store = store
        self._clock = clock
        self._changed = changed
        self._log = logs.get("controller").bind(candidate=identity)
        self._elector = Elector(identity, terms)
        self._standing = Standing()
        self._tried_at = float("-inf")
        self._news = threading.Condition()
        self._woken = self._stopping = False
        self._reason = ""
        self._refused: dict[str, int] = {}
        self._served: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="candidate", daemon=True)

    def leadership(self) -> Leadership | None:
        """Who leads, as was last seen; from any thread."""
        now = self._standing
        return Leadership(
            now.leads, self._identity, now.holder, now.term, self._store.name, now.since
        )

    def term(self) -> int | None:
        """The term under which we lead; None if we do not.

        A leader that has not asked for longer than its Lease lasts, because its process was stopped
        or its machine slept, must have done so first. It waits for an answer, or for there being
        none, and not for longer than answers may take.
        """
        with self._news:
            if self._standing.leads and not self._stopping:
                self._news.wait_for(self._is_fresh, 2 * self._terms.patience)
            return self._standing.term if self._standing.leads else None

    def __call__(self, result: Result) -> None:
        """Something happened in the loop."""
        match result:
            case Ready():
                self._thread.start()
            case Leads():
                self._refused.clear()
            case Admitted(node):
                self._refused.pop(node, None)
                self._served.add(node)
            case Lost(node):
                self._served.discard(node)
            case Departed(node):
                self._refused.pop(node, None)
            case Fenced(node, term, _, seen) if is_later(seen, term):
                self._refused[node] = seen
                self._outbid(term)

    def refresh(self) -> None:
        """Nothing is to be done now and then."""

    def stop(self) -> None:
        """Take part no longer, and give the Lease back if we hold it."""
        with self._news:
            self._stopping = True
            self._news.notify_all()
        if self._thread.is_alive():
            self._thread.join()
        released = self._elector.release()
        self._standing = self._elector.standing
        if released is not None:
            try:
                self._store.write(released)
                self._log.info("lease released")
            except (ConflictError, LeaseError) as error:
                self._log.warning("lease not released", reason=error)

    def _outbid(self, term: int) -> None:
        above = outbidding(self._refused, len(self._served))
        if above is None or not is_later(above, term):
            return
        self._log.warning("switches have seen a later term than the lease", term=term, seen=above)
        with self._news:
            self._elector.outbid(above)
            self._woken = True
            self._news.notify_all()

    def _run(self) -> None:
        while not self._stopping:
            try:
                self._step()
            except Exception:
                # Nobody else would notice that this thread is gone.
                self._log.exception("a fault while looking after the lease")
                with self._news:
                    self._elector.failed(self._clock())

    def _step(self) -> None:
        with self._news:
            self._woken = False
            step = self._elector.next(self._clock(), datetime.now(UTC))
            if isinstance(step, Wait):
                pause = step.until - self._clock()
                self._news.wait_for(lambda: self._woken or self._stopping, pause)
                return
        # Whatever the answer says, it may have waited for us, as when our process was stopped.
        began = self._clock()
        told = self._carry_out(step, began)
        with self._news:
            told()
            self._tried_at = began
            before, self._standing = self._standing, self._elector.standing
            self._news.notify_all()
        if before != self._standing:
            self._changed()

    def _carry_out(self, step: Look | Write, began: float) -> Callable[[], None]:
        """Send a request; returns how to tell the elector what came of it."""
        elector, clock = self._elector, self._clock
        try:
            if isinstance(step, Look):
                found = self._store.read()
                self._note("")
                return lambda: elector.seen(found, clock())
            written = self._store.write(step.lease)
        except ConflictError:
            return lambda: elector.conflicted(clock())
        except LeaseError as error:
            self._note(str(error))
            return lambda: elector.failed(clock())
        self._note("")
        return lambda: elector.written(written, began)

    def _note(self, reason: str) -> None:
        if reason and not self._reason:
            self._log.warning("lease cannot be looked after", reason=reason)
        if self._reason and not reason:
            self._log.info("lease can be looked after again")
        self._reason = reason

    def _is_fresh(self) -> bool:
        fresh = self._clock() - self._tried_at <= self._terms.seconds + self._terms.patience
        return fresh or self._stopping or not self._standing.leads
