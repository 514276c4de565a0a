"""The state of a controller as the documents that it serves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime

from ovsnet import __version__
from ovsnet.controller.belief import Refusal
from ovsnet.controller.brain import Brain, Watched
from ovsnet.controller.complainer import standing
from ovsnet.controller.complaints import POLICY, few
from ovsnet.controller.drops import PodDrops
from ovsnet.controller.services.compile import VERSIONS, set_names
from ovsnet.controller.status import (
    NO_SESSION,
    BelievedPort,
    Leadership,
    NodeStatus,
    PodDropped,
    PolicyComplaint,
    RefusedPort,
    Revision,
    ServiceComplaint,
    Status,
    WatchState,
    WatchStatus,
    cookie_text,
)
from ovsnet.controller.views import NodeView
from ovsnet.flows.serving import healthy, unhealthy
from ovsnet.flows.words import owner_text
from ovsnet.model import Service
from ovsnet.names import datapath_id


def status(
    brain: Brain,
    leadership: Leadership | None,
    started: float,
    sessions_since: Mapping[str, float],
    wall: Callable[[float], float],
    drops: Iterable[PodDrops] = (),
) -> Status:
    """What `GET /status` serves. `wall` turns the brain's time into seconds since 1970."""
    complaints = standing(brain)
    return Status(
        version=__version__,
        generation=brain.term or 0,
        started=_moment(started),
        ready=brain.ready,
        watches=tuple(_watch(w, brain.objects[w.kind]) for w in brain.watched),
        nodes=tuple(
            _node(brain, view, sessions_since.get(name), wall)
            for name, view in sorted(brain.network.nodes.items())
        ),
        drops=tuple(map(_dropped, drops)),
        policies=tuple(
            PolicyComplaint(c.object, c.field, c.reason) for c in complaints if c.sort == POLICY
        ),
        services=tuple(
            ServiceComplaint(c.sort.kind, c.object, c.field, c.reason)
            for c in few(c for c in complaints if c.sort != POLICY)
        ),
        leadership=leadership,
    )


def owners(brain: Brain) -> dict[str, str]:
    """What `GET /owners` serves: every cookie that a flow may carry now, in words."""
    texts = {cookie_text(owner.cookie): owner_text(owner) for owner in brain.network.owners}
    policies = brain.network.enforcement.owners()
    return texts | {cookie_text(cookie): text for cookie, text in policies}


def sets(services: Iterable[Service]) -> dict[str, str]:
    """What `GET /sets` serves: every set of endpoints that a flow may be about, in words."""
    found = {f"{number:#x}": name for each in services for number, name in set_names(each)}
    for version in VERSIONS:
        found[f"{healthy(version).id:#x}"] = f"health checks that succeed, over IPv{version}"
        found[f"{unhealthy(version).id:#x}"] = f"health checks that fail, over IPv{version}"
    return found


def _node(
    brain: Brain, view: NodeView, since: float | None, wall: Callable[[float], float]
) -> NodeStatus:
    name = view.node.name
    ledger = brain.network.ledger(name)
    session = brain.switchboard.session(name)
    names = {port.ofport: port.name for port in view.ports}
    return NodeStatus(
        name=name,
        session=NO_SESSION if session is None else session.state.name.lower(),
        datapath_id=f"{datapath_id(name):016x}",
        flows=len(ledger.flows),
        revision=Revision(
            ledger.revision,
            None if session is None else session.acknowledged,
            None if session is None else session.settled,
        ),
        since=None if since is None else _moment(wall(since)),
        ports=tuple(
            BelievedPort(names[e.ofport], e.ofport, str(ref), tuple(map(str, e.addresses)))
            for ref, e in sorted(view.beliefs.endpoints.items())
        ),
        refused=tuple(
            _refused(refusal, brain.refused_since.get((name, refusal)), wall)
            for refusal in view.beliefs.refusals
        ),
        datapath="" if session is None else session.datapath,
    )


def _dropped(drops: PodDrops) -> PodDropped:
    direction = drops.direction.lower()
    return PodDropped(str(drops.pod), drops.node, direction, drops.policies, drops.packets)


def _refused(refusal: Refusal, since: float | None, wall: Callable[[float], float]) -> RefusedPort:
    return RefusedPort(
        name=refusal.port.name,
        ofport=refusal.port.ofport,
        address=refusal.address,
        reason=str(refusal.reason),
        pods=tuple(map(str, refusal.pods)),
        since=None if since is None else _moment(wall(since)),
    )


def _watch(watched: Watched, objects: int) -> WatchStatus:
    if watched.stale_since is not None:
        state = WatchState.STALE
    else:
        state = WatchState.CURRENT if watched.listed else WatchState.LISTING
    return WatchStatus(
        kind=watched.kind,
        state=state,
        objects=objects,
        since=None if watched.stale_since is None else _moment(watched.stale_since),
        reason=watched.reason,
        version=watched.version,
        refreshed=watched.asked,
    )


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
