"""The session with one switch: which states it has, and what leads from one to the next.

It does no input or output and keeps no clock. Events and the time go in; commands and notices
come out (`ovsnet.controller.notices`).

    STANDING_BY ◄──slave── ASKING_ROLE ◄─lead()─ STANDING_BY
                                │ master
                             WAITING ──desire()──► READING_STAMP ──equal──────────────┐
                                                        │ unequal                     │
                                                        ▼                             ▼
                 ┌──────────────────────────────► LISTING ──no difference──────► STEADY ◄─┐
                 │                                      │ difference              │ change │
              BACKING_OFF ◄──refused── FILLING ◄────────┴─────────────────────────┘        │
                 ▲                        │ closed                                         │
                 └───────refused── COMMITTING ──committed───────────────────────────────────┘

Any state ends in ENDED: when the connection is lost, the switch stays silent or says what makes
no sense, or another controller leads it. Who leads no more ends its sessions; the switch connects
again, and nothing that was on its way is left of the old one.

A bundle that adds flows begins with the groups that they lead to (`openflow.groups`).

A bundle is sent whole and closed; only when the switch has closed it without refusing any of its
messages is it told to commit. A switch that refuses a message leaves just that one out of the
bundle, and would otherwise apply the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from enum import Enum, auto
from typing import Final, Protocol

import msgspec

from ovsnet.controller.belief import Port
from ovsnet.controller.comparison import compare
from ovsnet.controller.counters import Counters
from ovsnet.controller.dumps import Dumps, take_in
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
from ovsnet.controller.openflow.groups import groups_for
from ovsnet.controller.openflow.oxm import WireError
from ovsnet.controller.openflow.protocol import (
    FIRST_XID,
    FLOW_XID,
    NO_MASTER,
    STALE_GENERATION,
    BundleControl,
    ControllerRole,
)
from ovsnet.controller.role import Role
from ovsnet.controller.settlement import Settlement
from ovsnet.flows.flow import Flow, FlowKey
from ovsnet.flows.ledger import Delta
from ovsnet.flows.stamp import STAMP_KEY, serial_of, stamp_flow
from ovsnet.names import Table

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


class Timing(msgspec.Struct, frozen=True):
    """How long a session waits, in seconds.

    After `quiet` of silence it asks for a sign of life; after `dead` the switch is given up. An
    answer may take `answer`. Flows are compared every `audit`, drops counted every `counters`. A
    refused bundle is tried anew after `retry`, then twice as long each time up to `retry_most`.
    """

    quiet: float = 5.0
    dead: float = 20.0
    answer: float = 60.0
    audit: float = 300.0
    counters: float = 10.0
    retry: float = 1.0
    retry_most: float = 60.0


class State(Enum):
    """Where a session stands; the module's text has the whole picture."""

    ASKING_ROLE = auto()
    STANDING_BY = auto()
    WAITING = auto()
    READING_STAMP = auto()
    LISTING = auto()
    STEADY = auto()
    FILLING = auto()
    COMMITTING = auto()
    BACKING_OFF = auto()
    ENDED = auto()


_SERVING: Final = {State.STEADY, State.FILLING, State.COMMITTING}
_RESTING: Final = {State.STANDING_BY, State.WAITING, State.STEADY, State.BACKING_OFF, State.ENDED}
_ASKING: Final = set(State) - _RESTING


class _Bundle(msgspec.Struct):
    """A bundle on its way."""

    xid: int
    revision: int
    digest: int
    serial: int
    keys: Set[FlowKey]
    messages: int
    since: float


class _Listing(msgspec.Struct):
    """A dump coming in. As an audit it passes over the keys that change meanwhile."""

    xid: int
    audit: bool
    touched: set[FlowKey]
    flows: list[Flow | decode.ForeignFlow]


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
        self._shared = shared
        self._timing = timing
        self._desired: Desired | None = None
        self._xid = self._question = FIRST_XID
        self._role = Role(generation, self._next_xid, self._send)
        self._bundle: _Bundle | None = None
        self._listing: _Listing | None = None
        self._dumps = Dumps(node, self._next_xid, self._send, timing.answer)
        self._counters = Counters(node, self._next_xid, self._send, timing.counters, timing.answer)
        self._stamp: tuple[int, int] | None = None
        # A switch without a stamp has had others before, most likely, and their reports may be on
        # the way still: begin anywhere, but not where they began.
        self._settlement = Settlement(round(now * 1000))
        self._pending: dict[FlowKey, Flow | None] = {}
        self._pending_foreign: list[decode.ForeignFlow] = []
        self._target = (0, 0)
        self._heard = self._echoed = self._asked = now
        self._retry_in = timing.retry
        self._retry_at = self._audit_at = float("inf")

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
        dead = self._heard + self._timing.dead
        times = [dead, self._echo_at, self._retry_at, self._dumps.due, self._counters.due]
        if self._may_audit:
            times.append(self._audit_at)
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
        if self.state not in _SERVING:
            return []
        pending = self._pending
        for flow in delta.deletes:
            pending[flow.key] = None
        for flow in delta.adds:
            pending[flow.key] = flow
        self._target = (delta.revision, delta.digest)
        if self._listing is not None:
            self._listing.touched.update(pending)
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
        self._heard = now
        try:
            return self._dispatch(event, now)
        except WireError as error:
            return self._end(f"it sent what makes no sense: {error}")

    def tick(self, now: float) -> list[Outcome]:
        """What the passing of time leads to."""
        if self.state is State.ENDED:
            return []
        silent, waited = now - self._heard, now - self._asked
        if silent >= self._timing.dead:
            return self._end(f"it has been silent for {silent:.0f} s")
        if self._awaits_answer and waited >= self._timing.answer:
            return self._end(f"no answer for {waited:.0f} s while {self.state.name.lower()}")
        outcomes = [*self._dumps.tick(now), *self._counters.tick(now)]
        if now >= self._echo_at:
            self._echoed = now
            outcomes.append(self._send(encode.echo_request(self._next_xid())))
        if self.state is State.BACKING_OFF and now >= self._retry_at:
            self._retry_at = float("inf")
            self.state = State.LISTING
            outcomes += self._list(now, audit=False)
        elif self._may_audit and now >= self._audit_at:
            self._audit_at = float("inf")
            outcomes += self._list(now, audit=True)
        return outcomes

    def distrust(self, now: float) -> None:
        """Compare all flows at the next tick, for something may have been left undone."""
        self._audit_at = min(self._audit_at, now)

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
        self._stamp = None
        self._asked = now
        xid = self._question = self._next_xid()
        return [self._send(encode.flow_dump(xid, STAMP_KEY[0]) + encode.flow_counts(xid))]

    def _counted(self, event: FlowsCounted, now: float) -> list[Outcome]:
        if self.state is not State.READING_STAMP or event.xid != self._question:
            return []
        assert self._desired is not None
        counts, flows = decode.flow_counts(event.body), len(self._desired.flows)
        # The switch itself writes in one table, and how much is nobody's business.
        counted = sum(count for table, count in counts.items() if table != Table.AFFINITY)
        revision, digest = self._desired.revision, self._desired.digest
        if self._stamp is not None and self._stamp[0] == digest and counted == flows + 1:
            self._steady(revision, digest, now)
            in_step = Synchronised(self.node, revision, flows)
            seconds = self._settlement.has(self._stamp[1], digest, revision, now)
            return [in_step, *self._in_effect(seconds)]
        self.state = State.LISTING
        return self._list(now, audit=False)

    def _list(self, now: float, audit: bool) -> list[Outcome]:
        xid = self._next_xid()
        in_flight: Set[FlowKey] = self._bundle.keys if self._bundle else frozenset()
        # The dump may show a key as it was before what is on its way arrives.
        touched = {*self._pending, *in_flight}
        self._listing = _Listing(xid, audit, touched, [])
        self._asked = now
        return [self._send(encode.flow_dump(xid))]

    def _listed(self, event: FlowsListed, now: float) -> list[Outcome]:
        if self.state is State.READING_STAMP and event.xid == self._question:
            for flow in decode.flows(event.body):
                serial = serial_of(flow) if isinstance(flow, Flow) else None
                if serial is not None:
                    self._stamp = flow.cookie, serial
                    self._settlement.follow(serial)
            return []
        if self._dumps.asked(event.xid):
            return self._dumps.listed(event, now)
        if self._counters.asked(event.xid):
            return self._counters.listed(event, now)
        listing = self._listing
        if listing is None or event.xid != listing.xid:
            return []
        self._asked = now
        take_in(event, listing.flows)
        if event.more:
            return []
        self._listing = None
        return self._compare(listing, now)

    def _compare(self, listing: _Listing, now: float) -> list[Outcome]:
        assert self._desired is not None
        passed_over = listing.touched if listing.audit else frozenset()
        found = compare(listing.flows, self._desired.flows, STAMP_KEY, passed_over)
        # Where something is on its way, the stamp in the dump may be one of before.
        restamp = (
            listing.audit
            and not listing.touched
            and not any(_is_stamp(flow, self._target[1]) for flow in listing.flows)
        )
        self._audit_at = now + self._timing.audit
        missing = found.missing + restamp
        numbers = (found.equal, missing, found.changed, found.stale, found.strangers)
        notice = Compared(self.node, listing.audit, *numbers)
        self._pending.update((key, None) for key in found.deletes)
        self._pending.update((flow.key, flow) for flow in found.adds)
        self._pending_foreign += found.foreign
        if listing.audit and not restamp:
            return [notice, *self._flush(now)]
        if not listing.audit:
            self._target = (self._desired.revision, self._desired.digest)
        return [notice, *self._write(now)]

    def _flush(self, now: float) -> list[Outcome]:
        """Write what is pending, unless a bundle is on its way: then it waits for its answer."""
        if self.state is not State.STEADY or not (self._pending or self._pending_foreign):
            return []
        return self._write(now)

    def _write(self, now: float) -> list[Outcome]:
        adds = [flow for flow in self._pending.values() if flow is not None]
        deletes = [key for key, flow in self._pending.items() if flow is None]
        foreign = self._pending_foreign
        revision, digest = self._target
        bundle = _Bundle(
            xid=self._next_xid(),
            revision=revision,
            digest=digest,
            serial=self._settlement.next_serial(),
            keys=self._pending.keys(),
            messages=len(adds) + len(deletes) + len(foreign) + 1,
            since=now,
        )
        messages = groups_for(adds)
        messages += (encode.raw_delete(f.table, f.priority, f.match) for f in foreign)
        messages += (encode.flow_deletes(deletes), self._shared.encode(adds))
        messages.append(encode.flow_adds((stamp_flow(digest, bundle.serial),)))
        self._pending, self._pending_foreign = {}, []
        self._bundle = bundle
        self._asked = now
        self.state = State.FILLING
        return [self._send(encode.filled_bundle(bundle.xid, messages))]

    def _bundle_answered(self, event: BundleAnswered, now: float) -> list[Outcome]:
        bundle = self._bundle
        if bundle is None or event.xid != bundle.xid:
            return []
        if self.state is State.FILLING and event.control is BundleControl.CLOSE_REPLY:
            self._asked = now
            self.state = State.COMMITTING
            commit = encode.bundle_control(BundleControl.COMMIT_REQUEST, bundle.xid)
            return [self._send(commit)]
        if self.state is State.COMMITTING and event.control is BundleControl.COMMIT_REPLY:
            self._bundle = None
            self._retry_in = self._timing.retry
            self._steady(bundle.revision, bundle.digest, now)
            seconds = now - bundle.since
            acknowledged = Acknowledged(
                self.node, bundle.revision, bundle.digest, bundle.messages, seconds
            )
            known = self._settlement.has(bundle.serial, bundle.digest, bundle.revision, now)
            return [acknowledged, *self._in_effect(known), *self._flush(now)]
        return []

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
        bundle = self._bundle
        if bundle is not None and event.xid in {FLOW_XID, bundle.xid}:
            led = (event.kind, event.code) == NO_MASTER
            return self._fenced(event.text) if led else self._failed(bundle, event, now)
        listing = self._listing
        if event.xid == self._question or (listing is not None and event.xid == listing.xid):
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

    def _failed(self, bundle: _Bundle, refusal: Refused, now: float) -> list[Outcome]:
        """Nothing of the bundle was applied. Begin again with what the switch really has.

        Whatever else the switch has to say of this bundle it says before it answers the next
        question, and it finds no bundle that it could be about.
        """
        discard: list[Outcome] = []
        if self.state is State.FILLING:
            control = BundleControl.DISCARD_REQUEST
            discard = [self._send(encode.bundle_control(control, self._next_xid()))]
        wait = self._retry_in
        self._retry_in = min(2 * wait, self._timing.retry_most)
        self._retry_at = now + wait
        self._audit_at = float("inf")
        self._bundle = self._listing = None
        self._pending, self._pending_foreign = {}, []
        self.state = State.BACKING_OFF
        flow = decode.refused_flow(refusal.data)
        notice = WriteFailed(self.node, bundle.revision, refusal.text, flow, wait)
        return [*discard, notice]

    def _steady(self, revision: int, digest: int, now: float) -> None:
        self.state = State.STEADY
        self.acknowledged = revision
        if not self._pending:
            self._target = (revision, digest)
        if self._audit_at == float("inf") and self._listing is None:
            self._audit_at = now + self._timing.audit

    def _fenced(self, reason: str) -> list[Outcome]:
        term = self._role.generation
        if term is None:
            # Of one who stands by there is nothing to be kept out.
            return []
        return [Fenced(self.node, term, reason, self._role.seen), *self._end(reason)]

    def _end(self, reason: str, close: bool = True) -> list[Outcome]:
        self.state = State.ENDED
        self._bundle = self._listing = None
        self._pending, self._pending_foreign = {}, []
        lost = [*self._dumps.end(reason), Lost(self.node, self.connection, reason)]
        return [Close(self.connection, reason), *lost] if close else lost

    @property
    def _echo_at(self) -> float:
        return max(self._heard, self._echoed) + self._timing.quiet

    @property
    def _may_audit(self) -> bool:
        return self.state in _SERVING and self._listing is None

    @property
    def _awaits_answer(self) -> bool:
        return self.state in _ASKING or self._listing is not None

    def _next_xid(self) -> int:
        self._xid = self._xid + 1 if self._xid < _LAST_XID else FIRST_XID
        return self._xid

    def _send(self, data: bytes) -> Send:
        return Send(self.connection, data)


def _is_stamp(flow: Flow | decode.ForeignFlow, digest: int) -> bool:
    return isinstance(flow, Flow) and flow.cookie == digest and serial_of(flow) is not None
