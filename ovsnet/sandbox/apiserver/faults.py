"""Faults on demand, for tests and demonstrations. No real server has anything of the kind.

    POST /sandbox/faults  {"cutWatches": true, "compact": true, "refuseSeconds": 3}
    GET  /sandbox/faults

`cutWatches` breaks every watch's connection without a goodbye. `compact` forgets all history, so
that the next watch from a past revision, and the next page of a list, is answered with 410 Expired.
`refuseSeconds` answers everything but this path with 503 for so long; 0 ends that.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from ovsnet.sandbox.apiserver.status import ApiError, bad_request


class FaultRequest(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Which faults a client asks for."""

    cut_watches: bool = False
    compact: bool = False
    refuse_seconds: float | None = None


def read_request(body: bytes) -> FaultRequest:
    """Decode a request for faults. Raises ApiError (400), naming what is wrong."""
    try:
        return msgspec.json.decode(body or b"{}", type=FaultRequest)
    except msgspec.MsgspecError as error:
        raise bad_request(f"/sandbox/faults: {error}") from None


class Faults:
    """The faults in force."""

    def __init__(
        self,
        cut_watches: Callable[[], int],
        compact: Callable[[], None],
        monotonic: Callable[[], float],
    ) -> None:
        self._cut_watches = cut_watches
        self._compact = compact
        self._monotonic = monotonic
        self._refuse_until = 0.0

    def inflict(self, request: FaultRequest) -> int:
        """Do what a request asks for; returns the number of watches that were cut."""
        if request.compact:
            self._compact()
        if request.refuse_seconds is not None:
            self._refuse_until = self._monotonic() + request.refuse_seconds
        return self._cut_watches() if request.cut_watches else 0

    @property
    def refusing(self) -> float:
        """For how many more seconds everything is refused."""
        return max(0.0, self._refuse_until - self._monotonic())

    def check(self) -> None:
        """Raise ApiError (503) while everything is to be refused."""
        if self.refusing:
            raise ApiError(503, "ServiceUnavailable", "a fault is being simulated", retry_after=1)
