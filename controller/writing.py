"""What is still to be written to one switch, and the bundle that is on its way there.

A bundle that adds flows begins with the groups that they lead to (`openflow.groups`), and ends
with the stamp.

A bundle is sent whole and closed; only when the switch has closed it without refusing any of its
messages is it told to commit. A switch that refuses a message leaves just that one out of the
bundle, and would otherwise apply the rest.

Like the session that it belongs to it does no input or output and keeps no clock.
"""

from __future__ import annotations

from collections.abc import Callable, Set

import msgspec

from ovsnet.controller.comparison import Difference
from ovsnet.controller.notices import Send
from ovsnet.controller.openflow import decode, encode
from ovsnet.controller.openflow.groups import groups_for
from ovsnet.controller.openflow.protocol import FLOW_XID, BundleControl
from ovsnet.flows.flow import Flow, FlowKey
from ovsnet.flows.ledger import Delta
from ovsnet.flows.stamp import stamp_flow


class Bundle(msgspec.Struct, frozen=True):
    """A bundle on its way: what its stamp says and stands for, the keys of its flows, how many
    messages it has, and since when it is under way.
    """

    xid: int
    revision: int
    digest: int
    serial: int
    keys: Set[FlowKey]
    messages: int
    since: float


class Writing:
    """One bundle at a time; what comes meanwhile waits, and goes together.

    `next_xid` and `send` are the session's. `shared` encodes what goes to many switches alike.
    """

    def __init__(
        self,
        next_xid: Callable[[], int],
        send: Callable[[bytes], Send],
        shared: encode.SharedAdds,
    ) -> None:
        self._next_xid = next_xid
        self._send = send
        self._shared = shared
        self._waiting: dict[FlowKey, Flow | None] = {}
        self._foreign: list[decode.ForeignFlow] = []
        self._revision = self._digest = 0
        self._bundle: Bundle | None = None

    @property
    def waits(self) -> bool:
        """Whether there is something to be written besides what is on its way."""
        return bool(self._waiting or self._foreign)

    @property
    def keys(self) -> set[FlowKey]:
        """The keys of flows that wait or are on their way."""
        in_flight: Set[FlowKey] = self._bundle.keys if self._bundle else frozenset()
        return {*self._waiting, *in_flight}

    @property
    def digest(self) -> int:
        """That of the desired flows, once all that waits is written."""
        return self._digest

    @property
    def bundle(self) -> Bundle:
        """The bundle on its way; to be asked for only while there is one."""
        assert self._bundle is not None
        return self._bundle

    def aim(self, revision: int, digest: int) -> None:
        """What the switch has, once all that waits is written, has this revision and digest."""
        self._revision, self._digest = revision, digest

    def reached(self, revision: int, digest: int) -> None:
        """The switch has this revision, of this digest."""
        if not self._waiting:
            self.aim(revision, digest)

    def change(self, delta: Delta) -> None:
        """The desired flows have changed."""
        for flow in delta.deletes:
            self._waiting[flow.key] = None
        for flow in delta.adds:
            self._waiting[flow.key] = flow
        self.aim(delta.revision, delta.digest)

    def mend(self, found: Difference) -> None:
        """The switch's flows differ from the desired ones."""
        self._waiting.update((key, None) for key in found.deletes)
        self._waiting.update((flow.key, flow) for flow in found.adds)
        self._foreign += found.foreign

    def fill(self, serial: int, now: float) -> Send:
        """Send a bundle of all that waits, with a stamp of this number, and close it."""
        adds = [flow for flow in self._waiting.values() if flow is not None]
        deletes = [key for key, flow in self._waiting.items() if flow is None]
        foreign = self._foreign
        bundle = Bundle(
            xid=self._next_xid(),
            revision=self._revision,
            digest=self._digest,
            serial=serial,
            keys=self._waiting.keys(),
            messages=len(adds) + len(deletes) + len(foreign) + 1,
            since=now,
        )
        messages = groups_for(adds)
        messages += (encode.raw_delete(f.table, f.priority, f.match) for f in foreign)
        messages += (encode.flow_deletes(deletes), self._shared.encode(adds))
        messages.append(encode.flow_adds((stamp_flow(bundle.digest, serial),)))
        self._waiting, self._foreign = {}, []
        self._bundle = bundle
        return self._send(encode.filled_bundle(bundle.xid, messages))

    def asked(self, xid: int) -> bool:
        """Whether an answer with this transaction id is about the bundle on its way as a whole."""
        return self._bundle is not None and self._bundle.xid == xid

    def concerns(self, xid: int) -> bool:
        """Whether a refusal with this transaction id is of the bundle on its way, or of a message
        in it.
        """
        return self._bundle is not None and xid in {FLOW_XID, self._bundle.xid}

    def commit(self) -> Send:
        """The switch has closed the bundle and refused none of it: have it applied."""
        return self._send(encode.bundle_control(BundleControl.COMMIT_REQUEST, self.bundle.xid))

    def committed(self) -> Bundle:
        """The switch has applied the bundle, which is on its way no more."""
        bundle, self._bundle = self.bundle, None
        return bundle

    def discard(self) -> Send:
        """Have the switch forget the bundle on its way."""
        return self._send(encode.bundle_control(BundleControl.DISCARD_REQUEST, self._next_xid()))

    def give_up(self) -> None:
        """Nothing of the bundle on its way will be applied, and nothing that waits be written.

        Whatever else the switch has to say of this bundle it says before it answers the next
        question, and it finds no bundle that it could be about.
        """
        self._bundle = None
        self._waiting, self._foreign = {}, []
