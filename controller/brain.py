"""The controller's logic from end to end: events in, commands and notices out.

It puts together what the API server says (`Network`) and the sessions with the switches
(`Switchboard`). Like both it does no input or output and keeps no clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from ovsnet.api import (
    ENDPOINT_SLICE,
    KINDS,
    NAMESPACE,
    NETWORK_POLICY,
    NODE,
    POD,
    SERVICE,
    AnyKind,
    Changed,
    Deleted,
    Event,
    Fresh,
    Reached,
    Stale,
    Synced,
)
from ovsnet.controller.belief import Refusal
from ovsnet.controller.intake import take, take_all
from ovsnet.controller.network import Deltas, Network
from ovsnet.controller.notices import (
    Acknowledged,
    Admitted,
    Lost,
    Outcome,
    PortsChanged,
    StandingBy,
)
from ovsnet.controller.openflow.events import Event as SwitchEvent
from ovsnet.controller.refused import RefusedPorts
from ovsnet.controller.reports import Settled, Speaker, objection
from ovsnet.controller.results import (
    Cause,
    Departed,
    Leads,
    PortRefused,
    Ready,
    ReportRefused,
    Result,
    Served,
    StandsBy,
)
from ovsnet.controller.switchboard import Switchboard

GRACE: Final = 1.0
"""Seconds for which a port may be refused before anybody is told: its pod's news may be on the
way.
"""


class Watched(msgspec.Struct, frozen=True):
    """How the watch of a kind stands: since when it is stale, and why; None if it works.

    Everything up to `version` has been taken in, and all that was written before a fresh list was
    asked for with the number `asked`.
    """

    kind: str
    listed: bool
    stale_since: float | None = None
    reason: str = ""
    version: int = 0
    asked: int = 0


class Brain:
    """One controller. Nothing is written before all kinds have been listed, nor while it stands by.
    All that is known and desired is kept up to date then, too.
    """

    def __init__(self, network: Network, switchboard: Switchboard) -> None:
        self._network = network
        self._switchboard = switchboard
        self._watched = {kind.name: Watched(kind.name, listed=False) for kind in KINDS}
        self._held: list[SwitchEvent] = []
        self._known: frozenset[str] = frozenset()
        self._refused = RefusedPorts(GRACE)
        self._awaited: dict[str, list[tuple[int, Cause, float]]] = {}
        # When new pods are let in again, after news of policies had stopped; 0: they are. A watch
        # that works again first brings what was missed, so a moment is left for that.
        self._open_at = 0.0
        # Nodes whose sessions wait to be told what their switches should have, and until when they
        # do so for other nodes' sake; 0: no more.
        self._awaiting: list[str] = []
        self._begin_at = float("inf")

    @property
    def network(self) -> Network:
        """What is known, believed and desired."""
        return self._network

    @property
    def switchboard(self) -> Switchboard:
        """The sessions with the switches."""
        return self._switchboard

    @property
    def objects(self) -> Mapping[str, int]:
        """How many objects of each kind are known."""
        network = self._network
        return {
            NODE.name: len(network.nodes),
            POD.name: len(network.pods),
            NAMESPACE.name: len(network.namespaces),
            NETWORK_POLICY.name: len(network.policies),
            SERVICE.name: len(network.board.services),
            ENDPOINT_SLICE.name: len(network.board.slices),
        }

    @property
    def watched(self) -> tuple[Watched, ...]:
        """How the watches of all kinds stand."""
        return tuple(self._watched.values())

    @property
    def ready(self) -> bool:
        """Whether all kinds have been listed."""
        return all(watched.listed for watched in self._watched.values())

    @property
    def due(self) -> float:
        """When `tick` must be called at the latest."""
        telling = float("inf") if self.term is None else self._refused.due
        opening = self._open_at or float("inf")
        beginning = self._begin_at if self._awaiting else float("inf")
        return min(self._switchboard.due, opening, beginning, telling)

    @property
    def term(self) -> int | None:
        """The term of our leadership; None while we stand by."""
        return self._switchboard.generation

    def lead(self, term: int, now: float) -> list[Result]:
        """Lead from now on, under this term."""
        outcomes = self._switchboard.lead(term, now)
        return [Leads(term), *self._followed(outcomes, now)]

    def stand_by(self, now: float) -> list[Result]:
        """Write nothing from now on, as another leads."""
        outcomes = self._switchboard.stand_by("another controller leads")
        self._awaited.clear()
        self._awaiting.clear()
        self._refused.tell_again()
        return [StandsBy(), *self._followed(outcomes, now)]

    def heard(self, event: Event, now: float) -> list[Result]:
        """What an event of the API server leads to."""
        match event:
            case Stale(kind, since, reason):
                self._note(kind, stale_since=since, reason=reason)
                if kind is NETWORK_POLICY:
                    self._open_at = float("inf")
                    self._network.close_to_newcomers(True)
                return []
            case Fresh(kind):
                self._note(kind, stale_since=None, reason="")
                if kind is NETWORK_POLICY and self._open_at != 0.0:
                    self._open_at = now + GRACE
                return []
            case Reached(kind, version, asked):
                self._note(kind, version=version, asked=asked)
                return []
            case Synced(kind):
                return self._synced(event, kind, now)
            case Changed() | Deleted():
                return self._objects_changed(event.kind, take(self._network, event), now)

    def seen(self, event: SwitchEvent, now: float) -> list[Result]:
        """What an event of a switch leads to."""
        if not self.ready:
            self._held.append(event)
            return []
        outcomes = self._switchboard.handle(event, self._network.nodes.keys(), now)
        return self._followed(outcomes, now)

    def reported(self, report: Settled, speaker: Speaker, now: float) -> list[Result]:
        """What an agent's report leads to.

        Agents repeat it: one that comes before the nodes are known is passed over.
        """
        refused = self.vouch(report.node, speaker)
        if refused or not self.ready:
            return refused
        digest, serial = int(report.digest, 16), report.serial
        return self._followed(self._switchboard.reported(report.node, digest, serial, now), now)

    def vouch(self, node: str, speaker: Speaker) -> list[Result]:
        """Nothing, if this one is the node's agent; else a refusal.

        Before the nodes are known nobody is refused: nothing that an agent says counts then.
        """
        if not self.ready:
            return []
        view = self._network.nodes.get(node)
        reason = objection(node, speaker, view.node if view else None)
        return [] if reason is None else [ReportRefused(node, speaker.address, reason)]

    def tick(self, now: float) -> list[Result]:
        """What the passing of time leads to."""
        results = self._let_in(now) if 0.0 < self._open_at <= now else []
        results += self._begin(now)
        return [*results, *self._followed(self._switchboard.tick(now), now), *self._overdue(now)]

    def dump(self, node: str, ticket: int, now: float) -> list[Result]:
        """Have a node's switch say which flows it has: `Dumped` or `NotDumped`, with the ticket."""
        return self._followed(self._switchboard.dump(node, ticket, now), now)

    def _synced(self, event: Synced, kind: AnyKind, now: float) -> list[Result]:
        was_ready = self.ready
        self._note(kind, listed=True, stale_since=None, reason="")
        deltas = take_all(self._network, event)
        if was_ready or not self.ready:
            results = self._objects_changed(kind, deltas, now)
            return results + self._let_in(now) if kind is NETWORK_POLICY else results
        self._known = frozenset(self._network.nodes)
        self._begin_at = now + GRACE
        results = [*self._let_in(now), Ready(len(self._network.nodes), len(self._network.pods))]
        held, self._held = self._held, []
        for switch_event in held:
            results += self.seen(switch_event, now)
        return results

    def _let_in(self, now: float) -> list[Result]:
        """Let in the pods that waited while policies may have changed unheard."""
        self._open_at = 0.0
        return self._passed_on(self._network.close_to_newcomers(False), Cause.API, now)

    def distrust(self, now: float) -> None:
        """A fault may have left something undone: compare what switches have with the desired."""
        self._switchboard.distrust(now)

    def _objects_changed(self, kind: AnyKind, deltas: Deltas, now: float) -> list[Result]:
        results = self._passed_on(deltas, Cause.API, now)
        if kind is not NODE:
            return results
        # The node that others waited for may be the one that is gone.
        return [*self._departed(now), *results, *self._begin(now)]

    def _passed_on(self, deltas: Deltas, cause: Cause, now: float) -> list[Result]:
        """Hand every node's change to its session."""
        outcomes: list[Outcome] = []
        for node, delta in deltas.items():
            if self.term is not None and self._switchboard.session(node) is not None:
                self._awaited.setdefault(node, []).append((delta.revision, cause, now))
                outcomes += self._switchboard.changed(node, delta, now)
        self._refused.are(self._network.refusals(), now)
        return self._followed(outcomes, now)

    def _departed(self, now: float) -> list[Result]:
        """End the sessions of nodes that are gone."""
        gone = self._known - self._network.nodes.keys()
        self._known = frozenset(self._network.nodes)
        results: list[Result] = []
        for node in sorted(gone):
            outcomes = self._switchboard.close(node, "its node left the cluster")
            results += [*self._followed(outcomes, now), Departed(node)]
        return results

    def _followed(self, outcomes: Iterable[Outcome], now: float) -> list[Result]:
        """The outcomes of sessions, and what they lead to in turn."""
        results: list[Result] = []
        for outcome in outcomes:
            results.append(outcome)
            match outcome:
                case Admitted(node, _, ports):
                    deltas = self._network.set_ports(node, ports)
                    others = {name: delta for name, delta in deltas.items() if name != node}
                    results += self._passed_on(others, Cause.PORT, now)
                    self._awaiting.append(node)
                    results += self._begin(now)
                case StandingBy(node, _, ports):
                    results += self._passed_on(
                        self._network.set_ports(node, ports), Cause.PORT, now
                    )
                case PortsChanged(node, ports):
                    # The pod's own node first: its ADD waits for that.
                    deltas = dict(self._network.set_ports(node, ports))
                    own = {node: deltas.pop(node)} if node in deltas else {}
                    results += self._passed_on(own | deltas, Cause.PORT, now)
                case Acknowledged(node, revision):
                    results += self._served(node, revision, now)
                case Lost(node):
                    self._awaited.pop(node, None)
                case _:
                    pass
        return results

    def _begin(self, now: float) -> list[Result]:
        """Let the sessions go on that wait to be told what their switches should have.

        A controller that has just started first hears every switch's ports, if only for a moment:
        before that it does not know the newest pods, and would take them, as peers, from the flows
        that an earlier controller gave to other nodes.
        """
        if now < self._begin_at and not all(v.seen for v in self._network.nodes.values()):
            return []
        self._begin_at = 0.0
        waiting, self._awaiting = self._awaiting, []
        results: list[Result] = []
        for node in waiting:
            if node in self._network.nodes:
                ledger = self._network.ledger(node)
                desired = self._switchboard.desire(node, ledger, now)
                results += self._followed(desired, now)
        return results

    def _served(self, node: str, revision: int, now: float) -> list[Result]:
        awaited = self._awaited.pop(node, [])
        later = [item for item in awaited if item[0] > revision]
        if later:
            self._awaited[node] = later
        return [Served(node, cause, now - t) for wanted, cause, t in awaited if wanted <= revision]

    def _overdue(self, now: float) -> list[Result]:
        if self.term is None:
            return []
        return [PortRefused(*key) for key in self._refused.overdue(now)]

    @property
    def refused_since(self) -> Mapping[tuple[str, Refusal], float]:
        """Every refused port with its node, and when it was first refused, by the clock."""
        return self._refused.since

    def _note(self, kind: AnyKind, **changes: object) -> None:
        self._watched[kind.name] = msgspec.structs.replace(self._watched[kind.name], **changes)
