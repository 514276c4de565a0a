"""The session with one switch: what each event and the passing of time lead to.

It does no input or output and keeps no clock. Events and the time go in; commands and notices
come out (`ovsnet.controller.notices`). Which states it has, and what leads from one to the next,
is in `ovsnet.controller.states`; what it is to write, compare, read and count, each in a module of
its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from ovsnet.controller.audits import Audits, Listing
from ovsnet.controller.belief import Port
from ovsnet.controller.counters import Counters
from ovsnet.controller.dumps import Dumps
from ovsnet.controller.liveness import Liveness
from ovsnet.controller.notices import (
    Acknowledged,
    Admitted,
    Close,
    Compared,
    Fenced,
    Lost,
    Outcome,
    PortsChanged,
    Send,
    Settled,
    StandingBy,
    Synchronised,
    WriteFailed,
)
from ovsnet.controller.openflow import decode, encode
from ovsnet.controller.openflow.events import (
    BundleAnswered,
    Connected,
    Disconnected,
    Echoed,
    Event,
    FlowsCounted,
    FlowsListed,
    PortChange,
    PortChanged,
    Refused,
    RoleGranted,
    RoleLost,
)
from ovsnet.controller.openflow.oxm import WireError
from ovsnet.controller.openflow.protocol import (
    FIRST_XID,
    NO_MASTER,
    STALE_GENERATION,
    BundleControl,
    ControllerRole,
)
from ovsnet.controller.recognition import Recognition
from ovsnet.controller.role import Role
from ovsnet.controller.settlement import Settlement
from ovsnet.controller.states import ASKING, SERVING, State, Timing
from ovsnet.controller.writing import Bundle, Writing
from ovsnet.flows.flow import Flow, FlowKey
from ovsnet.flows.ledger import Delta

_LAST_XID: Final = 0x7FFFFFFF


class Desired(Protocol):
    """The flows that a switch should have: what all deltas so far have led to."""

    @property
    def flows(self) -> Mapping[FlowKey, Flow]:
        """All of them but the stamp, by key."""

    @property
    def digest(self) -> int:
        """64 bits over all of them, never 0."""

    @property
    def revision(self) -> int:
        """Counts their changes."""


class Session:
    """The state machine of one connection whose switch is known to be that of `node`.

    `generation` is the term of our leadership, None while we stand by. `shared` encodes what goes
    to many switches alike.
    """

    def __init__(
        self,
        node: str,
        connected: Connected,
        *,
        generation: int | None,
        shared: encode.SharedAdds,
        timing: Timing,
        now: float,
    ) -> None:
        self.node = node
        self.connection = connected.connection
        self.datapath = connected.serial
        self.state = State.ASKING_ROLE
        self.acknowledged: int | None = None
        self._ports = {port.ofport: port for port in connected.ports}
        self._timing = timing
        self._desired: Desired | None = None
        self._xid = FIRST_XID
        self._role = Role(generation, self._next_xid, self._send)
        self._recognition = Recognition(self._next_xid, self._send)
        self._liveness = Liveness(timing.quiet, timing.dead, now)
        self._writing = Writing(self._next_xid, self._send, shared)
        self._audits = Audits(self._next_xid, self._send, timing.audit)
        self._dumps = Dumps(node, self._next_xid, self._send, timing.answer)
        self._counters = Counters(node, self._next_xid, self._send, timing.counters, timing.answer)
        # A switch without a stamp has had others before, most likely, and their reports may be on
        # the way still: begin anywhere, but not where they began.
        self._settlement = Settlement(round(now * 1000))
        self._asked = now
        self._retry_in = timing.retry
        self._retry_at = float("inf")

    @property
    def ports(self) -> frozenset[Port]:
        """The switch's ports at this moment."""
        return frozenset(self._ports.values())

    @property
    def settled(self) -> int | None:
        """The last revision that is known to be in effect; None: none is."""
        return self._settlement.revision

    @property
    def due(self) -> float:
        """When `tick` must be called at the latest."""
        if self.state is State.ENDED:
            return float("inf")
        times = [self._liveness.due, self._retry_at, self._dumps.due, self._counters.due]
        if self.state in SERVING:
            times.append(self._audits.due)
        if self._awaits_answer:
            times.append(self._asked + self._timing.answer)
        return min(times)

    def start(self, now: float) -> list[Outcome]:
        """Ask for our role. To be called once, first."""
        self._asked = now
        return [*self._role.ask()]

    def lead(self, generation: int, now: float) -> list[Outcome]:
        """Ask to be master under this term. A session that serves already goes on meanwhile."""
        if self.state is State.ENDED:
            return []
        if self.state is State.STANDING_BY:
            self.state = State.ASKING_ROLE
        self._asked = now
        return [*self._role.lead(generation)]

    def desire(self, desired: Desired, now: float) -> list[Outcome]:
        """From now on the switch should have these flows; `desired` is read again and again.

        Until this is called nothing is read or written: no truth is known yet. A later call
        exchanges the object for another that is in the same state.
        """
        self._desired = desired
        if self.state is not State.WAITING:
            return []
        self._counters.begin(now)
        return self._read_stamp(now)

    def changed(self, delta: Delta, now: float) -> list[Outcome]:
        """The desired flows have changed by `delta`. Deltas must be given in their order.

        The digest and revision of each are those of all deltas up to and including it.
        """
        if self.state is State.BACKING_OFF:
            self._retry_at = min(self._retry_at, now + self._timing.retry)
        if self.state not in SERVING:
            return []
        self._writing.change(delta)
        self._audits.touch(flow.key for flow in (*delta.deletes, *delta.adds))
        return self._flush(now)

    def reported(self, digest: int, serial: int, now: float) -> list[Outcome]:
        """The agent says that what the stamp of this digest and number stands for is in effect."""
        if self.state is State.ENDED:
            return []
        return self._in_effect(self._settlement.reported(serial, digest, now))

    def dump(self, ticket: int, now: float) -> list[Outcome]:
        """Have the switch say which flows it has, in any state, beside everything else."""
        return self._dumps.ask(ticket, now)

    def handle(self, event: Event, now: float) -> list[Outcome]:
        """What an event of this connection leads to."""
        if self.state is State.ENDED:
            return []
        self._liveness.heard(now)
        try:
            return self._dispatch(event, now)
        except WireError as error:
            return self._end(f"it sent what makes no sense: {error}")

    def tick(self, now: float) -> list[Outcome]:
        """What the passing of time leads to."""
        if self.state is State.ENDED:
            return []
        waited = now - self._asked
        if self._liveness.gone(now):
            return self._end(f"it has been silent for {self._liveness.silence(now):.0f} s")
        if self._awaits_answer and waited >= self._timing.answer:
            return self._end(f"no answer for {waited:.0f} s while {self.state.name.lower()}")
        outcomes = [*self._dumps.tick(now), *self._counters.tick(now)]
        if self._liveness.to_be_asked(now):
            self._liveness.asked(now)
            outcomes.append(self._send(encode.echo_request(self._next_xid())))
        if self.state is State.BACKING_OFF and now >= self._retry_at:
            self._retry_at = float("inf")
            self.state = State.LISTING
            outcomes += self._list(now, audit=False)
        elif self.state in SERVING and now >= self._audits.due:
            outcomes += self._list(now, audit=True)
        return outcomes

    def distrust(self, now: float) -> None:
        """Compare all flows at the next tick, for something may have been left undone."""
        self._audits.soon(now)

    def close(self, reason: str) -> list[Outcome]:
        """End the session, and the connection with it."""
        return [] if self.state is State.ENDED else self._end(reason)

    def _dispatch(self, event: Event, now: float) -> list[Outcome]:  # noqa: PLR0911  one a kind
        match event:
            case RoleGranted():
                return self._role_granted(event, now)
            case RoleLost():
                return self._fenced("another controller took over")
            case PortChanged():
                return self._port_changed(event)
            case FlowsListed():
                return self._listed(event, now)
            case FlowsCounted():
                return self._counted(event, now)
            case BundleAnswered():
                return self._bundle_answered(event, now)
            case Refused():
                return self._refused(event, now)
            case Disconnected(_, reason):
                return self._end(reason, close=False)
            case Connected() | Echoed():
                return []

    def _role_granted(self, event: RoleGranted, now: float) -> list[Outcome]:
        role, questions = self._role.granted(event)
        if questions:
            self._asked = now
            return [*questions]
        if role is None:
            return []
        if role is not self._role.wanted:
            return self._end(f"it made us {role.name} when asked for {self._role.wanted.name}")
        if self.state is not State.ASKING_ROLE:
            return []
        if role is ControllerRole.SLAVE:
            self.state = State.STANDING_BY
            return [StandingBy(self.node, self.connection, self.ports)]
        self.state = State.WAITING
        admitted = Admitted(self.node, self.connection, self.ports)
        return [admitted, *(self._read_stamp(now) if self._desired else [])]

    def _port_changed(self, event: PortChanged) -> list[Outcome]:
        if event.change is PortChange.REMOVED:
            self._ports.pop(event.port.ofport, None)
        else:
            self._ports[event.port.ofport] = event.port
        if self.state is State.ASKING_ROLE:
            return []
        return [PortsChanged(self.node, self.ports)]

    def _read_stamp(self, now: float) -> list[Outcome]:
        self.state = State.READING_STAMP
        self._asked = now
        return [self._recognition.ask()]

    def _counted(self, event: FlowsCounted, now: float) -> list[Outcome]:
        if self.state is not State.READING_STAMP or not self._recognition.asked(event.xid):
            return []
        assert self._desired is not None
        revision, digest = self._desired.revision, self._desired.digest
        flows = len(self._desired.flows)
        serial = self._recognition.counted(event, digest, flows)
        if serial is None:
            self.state = State.LISTING
            return self._list(now, audit=False)
        self._steady(revision, digest, now)
        in_step = Synchronised(self.node, revision, flows)
        return [in_step, *self._in_effect(self._settlement.has(serial, digest, revision, now))]

    def _list(self, now: float, audit: bool) -> list[Outcome]:
        self._asked = now
        return [self._audits.begin(self._writing.keys, audit=audit)]

    def _listed(self, event: FlowsListed, now: float) -> list[Outcome]:
        if self.state is State.READING_STAMP and self._recognition.asked(event.xid):
            serial = self._recognition.listed(event)
            if serial is not None:
                self._settlement.follow(serial)
            return []
        if self._dumps.asked(event.xid):
            return self._dumps.listed(event, now)
        if self._counters.asked(event.xid):
            return self._counters.listed(event, now)
        if not self._audits.asked(event.xid):
            return []
        self._asked = now
        listing = self._audits.listed(event, now)
        return [] if listing is None else self._compare(listing, now)

    def _compare(self, listing: Listing, now: float) -> list[Outcome]:
        assert self._desired is not None
        found = listing.compare(self._desired.flows)
        restamp = listing.lacks_stamp(self._writing.digest)
        numbers = (found.equal, found.missing + restamp, found.changed, found.stale)
        notice = Compared(self.node, listing.audit, *numbers, found.strangers)
        self._writing.mend(found)
        if listing.audit and not restamp:
            return [notice, *self._flush(now)]
        if not listing.audit:
            self._writing.aim(self._desired.revision, self._desired.digest)
        return [notice, *self._write(now)]

    def _flush(self, now: float) -> list[Outcome]:
        """Write what waits, unless a bundle is on its way: then it waits for its answer."""
        if self.state is not State.STEADY or not self._writing.waits:
            return []
        return self._write(now)

    def _write(self, now: float) -> list[Outcome]:
        self._asked = now
        self.state = State.FILLING
        return [self._writing.fill(self._settlement.next_serial(), now)]

    def _bundle_answered(self, event: BundleAnswered, now: float) -> list[Outcome]:
        if not self._writing.asked(event.xid):
            return []
        if self.state is State.FILLING and event.control is BundleControl.CLOSE_REPLY:
            self._asked = now
            self.state = State.COMMITTING
            return [self._writing.commit()]
        if self.state is State.COMMITTING and event.control is BundleControl.COMMIT_REPLY:
            return self._committed(self._writing.committed(), now)
        return []

    def _committed(self, bundle: Bundle, now: float) -> list[Outcome]:
        revision, digest = bundle.revision, bundle.digest
        self._retry_in = self._timing.retry
        self._steady(revision, digest, now)
        seconds = now - bundle.since
        acknowledged = Acknowledged(self.node, revision, digest, bundle.messages, seconds)
        known = self._settlement.has(bundle.serial, digest, revision, now)
        return [acknowledged, *self._in_effect(known), *self._flush(now)]

    def _in_effect(self, seconds: float | None) -> list[Outcome]:
        revision = self._settlement.revision
        if seconds is None or revision is None:
            return []
        return [Settled(self.node, revision, seconds)]

    def _refused(self, event: Refused, now: float) -> list[Outcome]:
        if self._role.asked(event.xid):
            return self._role_refused(event, now)
        if self._dumps.asked(event.xid):
            return self._dumps.failed(f"it refused: {event.text}", now)
        if self._counters.asked(event.xid):
            return self._counters.failed(f"it refused: {event.text}")
        if self._writing.concerns(event.xid):
            led = (event.kind, event.code) == NO_MASTER
            return self._fenced(event.text) if led else self._failed(event, now)
        if self._recognition.asked(event.xid) or self._audits.asked(event.xid):
            return self._end(f"it refused to say what flows it has: {event.text}")
        return []

    def _role_refused(self, event: Refused, now: float) -> list[Outcome]:
        if self._role.generation is not None:
            return self._fenced(event.text)
        if (event.kind, event.code) != STALE_GENERATION:
            return self._end(f"it gives us no role: {event.text}")
        # There has been a new leader since it said which one it had.
        self._asked = now
        return [*self._role.ask()]

    def _failed(self, refusal: Refused, now: float) -> list[Outcome]:
        """Nothing of the bundle was applied. Begin again with what the switch really has."""
        discard = [self._writing.discard()] if self.state is State.FILLING else []
        wait = self._retry_in
        self._retry_in = min(2 * wait, self._timing.retry_most)
        self._retry_at = now + wait
        self.state = State.BACKING_OFF
        revision = self._writing.bundle.revision
        self._writing.give_up()
        self._audits.give_up()
        flow = decode.refused_flow(refusal.data)
        return [*discard, WriteFailed(self.node, revision, refusal.text, flow, wait)]

    def _steady(self, revision: int, digest: int, now: float) -> None:
        self.state = State.STEADY
        self.acknowledged = revision
        self._writing.reached(revision, digest)
        self._audits.later(now)

    def _fenced(self, reason: str) -> list[Outcome]:
        term = self._role.generation
        if term is None:
            # Of one who stands by there is nothing to be kept out.
            return []
        return [Fenced(self.node, term, reason, self._role.seen), *self._end(reason)]

    def _end(self, reason: str, close: bool = True) -> list[Outcome]:
        self.state = State.ENDED
        self._writing.give_up()
        self._audits.give_up()
        lost = [*self._dumps.end(reason), Lost(self.node, self.connection, reason)]
        return [Close(self.connection, reason), *lost] if close else lost

    @property
    def _awaits_answer(self) -> bool:
        return self.state in ASKING or self._audits.under_way

    def _next_xid(self) -> int:
        self._xid = self._xid + 1 if self._xid < _LAST_XID else FIRST_XID
        return self._xid

    def _send(self, data: bytes) -> Send:
        return Send(self.connection, data)
