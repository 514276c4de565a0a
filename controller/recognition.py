"""Whether a switch that comes has the desired flows already: by its stamp, and by how many it has.

Like the session that it belongs to it does no input or output and keeps no clock.
"""

from __future__ import annotations

from collections.abc import Callable

from ovsnet.controller.notices import Send
from ovsnet.controller.openflow import decode, encode
from ovsnet.controller.openflow.events import FlowsCounted, FlowsListed
from ovsnet.controller.openflow.protocol import FIRST_XID
from ovsnet.flows.flow import Flow
from ovsnet.flows.stamp import STAMP_KEY, serial_of
from ovsnet.names import Table


class Recognition:
    """Two questions at once, of which the first is answered first: the stamp, and the number of
    flows. `next_xid` and `send` are the session's.
    """

    def __init__(self, next_xid: Callable[[], int], send: Callable[[bytes], Send]) -> None:
        self._next_xid = next_xid
        self._send = send
        self._question = FIRST_XID
        self._stamp: tuple[int, int] | None = None

    def ask(self) -> Send:
        """Ask both."""
        xid = self._question = self._next_xid()
        self._stamp = None
        return self._send(encode.flow_dump(xid, STAMP_KEY[0]) + encode.flow_counts(xid))

    def asked(self, xid: int) -> bool:
        """Whether an answer with this transaction id is to these questions."""
        return xid == self._question

    def listed(self, event: FlowsListed) -> int | None:
        """The number of the stamp that the switch has (`ovsnet.flows.stamp`), if it has one.

        Raises:
            WireError: the answer makes no sense.
        """
        for flow in decode.flows(event.body):
            serial = serial_of(flow) if isinstance(flow, Flow) else None
            if serial is not None:
                self._stamp = flow.cookie, serial
        return None if self._stamp is None else self._stamp[1]

    def counted(self, event: FlowsCounted, digest: int, flows: int) -> int | None:
        """The number of the switch's stamp, if it says that the switch has what is desired: so
        many flows of this digest, besides the stamp. None if it does not.

        Raises:
            WireError: the answer makes no sense.
        """
        counts = decode.flow_counts(event.body)
        # The switch itself writes in one table, and how much is nobody's business.
        counted = sum(count for table, count in counts.items() if table != Table.AFFINITY)
        if self._stamp is None or self._stamp[0] != digest or counted != flows + 1:
            return None
        return self._stamp[1]
