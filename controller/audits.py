"""When one switch's flows are compared with the desired ones, and the dump for it.

All are compared before anything is written to a switch that comes with another stamp than
expected, and after it has refused a bundle. What is compared besides, from time to time, while
changes go on, is an audit.

Like the session that it belongs to it does no input or output and keeps no clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import msgspec

from ovsnet.controller.comparison import Difference, compare
from ovsnet.controller.dumps import take_in
from ovsnet.controller.notices import Send
from ovsnet.controller.openflow import encode
from ovsnet.controller.openflow.decode import ForeignFlow
from ovsnet.controller.openflow.events import FlowsListed
from ovsnet.flows.flow import Flow, FlowKey
from ovsnet.flows.stamp import STAMP_KEY, serial_of


class Listing(msgspec.Struct):
    """A dump coming in. As an audit it passes over the keys that change meanwhile."""

    xid: int
    audit: bool
    touched: set[FlowKey]
    flows: list[Flow | ForeignFlow]

    def compare(self, desired: Mapping[FlowKey, Flow]) -> Difference:
        """How its flows differ from the desired ones."""
        passed_over = self.touched if self.audit else frozenset[FlowKey]()
        return compare(self.flows, desired, STAMP_KEY, passed_over)

    def lacks_stamp(self, digest: int) -> bool:
        """Whether an audit has found that the switch's stamp is gone, or is another one."""
        # Where something is on its way, the stamp in the dump may be one of before.
        if not self.audit or self.touched:
            return False
        return not any(_is_stamp(flow, digest) for flow in self.flows)


class Audits:
    """One comparison at a time, and an audit every `interval` seconds after the last one.

    `next_xid` and `send` are the session's.
    """

    def __init__(
        self, next_xid: Callable[[], int], send: Callable[[bytes], Send], interval: float
    ) -> None:
        self._next_xid = next_xid
        self._send = send
        self._interval = interval
        self._next = float("inf")
        self._coming: Listing | None = None

    @property
    def due(self) -> float:
        """When the next audit is to begin."""
        return float("inf") if self.under_way else self._next

    @property
    def under_way(self) -> bool:
        """Whether a comparison waits for its dump."""
        return self._coming is not None

    def soon(self, now: float) -> None:
        """The next audit is to begin now."""
        self._next = min(self._next, now)

    def later(self, now: float) -> None:
        """An audit is to come, if none is on its way or about to be."""
        if self._next == float("inf") and not self.under_way:
            self._next = now + self._interval

    def begin(self, touched: set[FlowKey], *, audit: bool) -> Send:
        """Have the switch say which flows it has. `touched` are those that it may show as they
        were before what is on its way arrives.
        """
        self._next = float("inf")
        self._coming = Listing(self._next_xid(), audit, touched, [])
        return self._send(encode.flow_dump(self._coming.xid))

    def touch(self, keys: Iterable[FlowKey]) -> None:
        """These flows change while the dump comes in."""
        if self._coming is not None:
            self._coming.touched.update(keys)

    def asked(self, xid: int) -> bool:
        """Whether an answer with this transaction id is part of the dump on its way."""
        return self._coming is not None and self._coming.xid == xid

    def listed(self, event: FlowsListed, now: float) -> Listing | None:
        """A part of the dump on its way has come. Returns the dump once that was the last part.

        Raises:
            WireError: it makes no sense.
        """
        listing = self._coming
        assert listing is not None
        take_in(event, listing.flows)
        if event.more:
            return None
        self._coming, self._next = None, now + self._interval
        return listing

    def give_up(self) -> None:
        """Compare nothing from now on."""
        self._coming, self._next = None, float("inf")


def _is_stamp(flow: Flow | ForeignFlow, digest: int) -> bool:
    return isinstance(flow, Flow) and flow.cookie == digest and serial_of(flow) is not None
