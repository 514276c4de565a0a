"""The compiler of services with one rule broken on purpose: the comparisons with the evaluator and
with the final state, and the tests of connections, must notice every one of these breaks. A suite
that cannot fail proves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import pytest
import test_service_connections as connections
import test_service_orders as orders
import test_service_policies as policies
from hypothesis import HealthCheck, Phase, given, settings
from msgspec.structs import replace
from service_agreement import as_it_comes, disagreement
from service_carriage import ServiceCarriage
from service_scenes import SCENES, scene_calls

from ovsnet.controller import network
from ovsnet.controller.services import board, compile, doors, endpoints, objections
from ovsnet.flows import balance, node, pod, service, serving
from ovsnet.flows.fields import CtState, Field
from ovsnet.flows.flow import Block, Flow, Goto, Match, SetField, match
from ovsnet.flows.ledger import Ledger
from ovsnet.flows.registers import AFFINE, FOR_NODE, INSIDE
from ovsnet.flows.terms import in_port
from ovsnet.model import parse_address
from ovsnet.names import TUNNEL_OFPORT, Table

Broken = Callable[[Any], Any]


class Break(NamedTuple):
    """A name in a module or class, and what stands in its place: made of the real one."""

    place: Any
    name: str
    broken: Broken


def without(place: Any, name: str) -> Break:
    """A break that makes none of these flows."""
    return Break(place, name, lambda _: lambda *_, **__: iter(()))


def deaf(place: Any, name: str) -> Break:
    """A break that passes over an event."""
    return Break(place, name, lambda _: lambda self, *_: None)


def nothing(place: Any, name: str) -> Break:
    """A break that makes a flow for no packet at all."""
    return instead(place, name, lambda *_: Flow(Table.STAMP, 1, ()))


def instead(place: Any, name: str, value: Any) -> Break:
    """A break that puts a value in a place, whatever was there."""
    return Break(place, name, lambda _: value)


def less(place: Any, name: str, unwanted: Callable[[Flow], bool]) -> Break:
    """A break that leaves out some of these flows."""

    def broken(real: Any) -> Any:
        return lambda *args, **more: (f for f in real(*args, **more) if not unwanted(f))

    return Break(place, name, broken)


def state_of(flow: Flow) -> tuple[int, int]:
    """Value and mask of ct_state in a match."""
    found = (t for t in flow.match if t.field is Field.CT_STATE)
    return next(((t.value, t.mask or 0) for t in found), (0, 0))


def about(flow: Flow, bits: int, value: int) -> bool:
    """Whether a flow looks at these bits of ct_state, and wants them so."""
    found, mask = state_of(flow)
    return mask & bits == bits and found & bits == value


def for_node(flow: Flow) -> bool:
    return FOR_NODE.matches(1) in flow.match


# --- what stands in the place of the compiler's functions ---


def goes_on(table: Table, condition: Match) -> Flow:
    return Flow(table, 1, condition, (Goto(Table.CONNTRACK),))


def nobodys(real: Any) -> Any:
    """Everything else to an address is no service's."""
    return lambda address: goes_on(Table.SERVICE, real(address).match)


def without_addresses(real: Any) -> Any:
    def made(what: Any, of_a_node: bool) -> Block:
        found = real(what, of_a_node)
        return found if isinstance(what, int) else Block(found.owner, ())

    return made


def not_inside(real: Any) -> Any:
    def made(endpoint: Any) -> Flow:
        flow = real(endpoint)
        kept = tuple(a for a in flow.actions if a != INSIDE.set(1))
        return Flow(flow.table, flow.priority, flow.match, kept)

    return made


def by_everybody(real: Any) -> Any:
    return lambda door, endpoints, sources, terms: iter((service.called(door, endpoints, terms),))


def off_by_one(real: Any) -> Any:
    def made(count: int) -> Iterator[Flow]:
        for flow in real(count):
            first, onward = flow.actions
            yield Flow(flow.table, flow.priority, flow.match, (replace(first, value=0), onward))

    return made


def not_settled(real: Any) -> Any:
    """Nothing says what becomes of a connection."""
    return lambda natted: real(0)


def candidates_of(keep: Callable[[Any, Any], bool]) -> Break:
    """A break of which endpoints a board takes for a port."""

    def broken(real: Any) -> Any:
        def found(self: Any, slices: Any, port: Any, version: int) -> Any:
            for part in slices:
                for each in part.ports:
                    for endpoint in part.endpoints:
                        if keep(each, port) and endpoint.address.version == version:
                            yield service.Target(endpoint.address, each.port), endpoint

        return found

    return Break(board.Board, "_endpoints", broken)


def choice(**change: Callable[[Any, Any], Any]) -> Break:
    """A break of some parts of the choice of endpoints: made of what is found and the real one."""

    def broken(real: Any) -> Any:
        def made(found: Any) -> Any:
            chosen = real(found)
            return replace(chosen, **{k: make(found, chosen) for k, make in change.items()})

        return made

    return Break(board, "choose", broken)


def grouped(found: Any, wanted: Callable[[Any], bool], names: Callable[[Any], Any]) -> Any:
    return endpoints._grouped([t for t, e in found.items() if wanted(e)], lambda t: names(found[t]))


def targets(found: Any, wanted: Callable[[Any], bool]) -> Any:
    return tuple(sorted(t for t, e in found.items() if wanted(e)))


def in_any_family(service_: Any) -> Any:
    way = doors.Way
    yield from ((a, way.CLUSTER, "spec.clusterIPs") for a in service_.addresses)
    yield from ((a, way.EXTERNAL, "spec.externalIPs") for a in service_.external)


def headless_too(real: Any) -> Any:
    def found(one: Any) -> Any:
        named = one if one.addresses else replace(one, addresses=(parse_address("10.96.9.9"),))
        return real(named)

    return found


def sources_last(real: Any) -> Any:
    return lambda one: sorted(real(one), key=lambda found: found[1] is doors.Way.LOAD_BALANCER)


def to_everywhere(real: Any) -> Any:
    """Sets of some endpoints are numbered like the set of all."""
    return lambda called, instead_, found, priority: real(called, called, found, priority)


def from_everybody(real: Any) -> Any:
    return lambda called, target: replace(real(called, target), same=())


def forgets_zones_alone(real: Any) -> Any:
    def made(port: Any, name: str, found: Any, priority: int) -> Any:
        flows = real(port, name, found, priority)
        return (f for f in flows if name == "zone" or f.table is not Table.STICKY)

    return made


def relayed() -> Flow:
    return Flow(Table.ROUTE, 150, match(in_port(TUNNEL_OFPORT)))


BREAKS: dict[tuple[str, str], Break] = {
    # what a node has for services
    ("a pod does not reach itself", "one endpoint"): instead(network, "legs", lambda _: ()),
    ("sources are never translated", "one endpoint"): without(serving, "from_host_to_host"),
    ("all sources are translated", "external Local"): nothing(serving, "from_host_to_pod"),
    ("sources are hidden from the host", "Local in the hosts' network"): nothing(
        serving, "from_client_to_host"
    ),
    ("nobody calls the node", "one endpoint"): without(serving, "for_the_node"),
    ("the node's processes are outside", "external Local"): without(serving, "from_the_node"),
    ("pods are outside", "external Local"): Break(pod, "from_pod", not_inside),
    ("nobody answers health checks", "health checks"): without(serving, "health_checks"),
    ("the node does not refuse", "no endpoint"): without(node, "refused_by_the_node"),
    ("answers are not marked", "one endpoint"): without(serving, "commit_served"),
    ("answers stay as they are", "one endpoint"): without(serving, "answers"),
    ("answers keep their source", "one endpoint"): less(
        serving, "answers", lambda f: f.table is Table.ANSWER_SERVICE
    ),
    ("nothing leaves by the port it came in by", "endpoints in the hosts' network"): without(
        serving, "out_of_any_port"
    ),
    ("answers from tunnels stay here", "one endpoint"): instead(node, "no_relay", relayed),
    ("other node ports are nobody's", "one endpoint"): Break(serving, "called_otherwise", nobodys),
    ("errors to the node are its own", "one endpoint"): without(serving, "errors_for_a_node"),
    ("errors to other nodes are theirs", "an external address of a node"): without(
        board, "errors_for_a_node"
    ),
    ("addresses of nodes are services'", "an external address of a node"): deaf(
        board.Board, "set_node_addresses"
    ),
    ("other ports of services are nobody's", "one endpoint"): Break(
        board, "_shared_block", without_addresses
    ),
    ("nobody is dropped", "internal Local"): less(serving, "no_endpoint", lambda f: bool(f.match)),
    ("nobody is refused", "no endpoint"): less(serving, "no_endpoint", lambda f: not f.match),
    ("newcomers are forgotten", "affinity"): instead(
        serving, "nobody_remembered", lambda: Flow(Table.STICKY, 0, ())
    ),
    ("connections that are known get another endpoint", "two endpoints"): less(
        serving, "towards_endpoints", lambda f: about(f, CtState.DNAT, CtState.DNAT)
    ),
    ("nobody is looked for among the remembered", "affinity"): less(
        serving, "towards_endpoints", lambda f: AFFINE.matches(1) in f.match
    ),
    ("errors about the node's calls are for services", "one endpoint"): less(
        serving,
        "towards_endpoints",
        lambda f: for_node(f) and about(f, CtState.RPL, CtState.RPL),
    ),
    ("errors about the node's connections are dropped", "one endpoint"): less(
        serving,
        "towards_endpoints",
        lambda f: for_node(f) and about(f, CtState.INV, CtState.INV),
    ),
    # what a service has
    ("connections are not settled", "one endpoint"): Break(service, "settled", not_settled),
    ("sets are one", "several ports"): instead(compile, "set_id", lambda *_: 7),
    ("marks are one", "affinity"): instead(service, "mark_of", lambda *_: 7),
    ("nobody is remembered", "affinity"): without(compile, "sticky"),
    ("everybody is remembered", "affinity"): Break(
        service, "_remembering", lambda real: lambda called, t: replace(real(called, t), value=9)
    ),
    ("slots lead to the first endpoint", "two endpoints"): Break(balance, "spread", off_by_one),
    ("one endpoint less is chosen", "an endpoint on every node"): Break(
        service, "choose_among", lambda real: lambda count: real(max(2, count - 1))
    ),
    ("nodes without an endpoint refuse", "internal Local"): Break(
        compile, "Terms", lambda real: lambda **more: real(**{**more, "local_only": False})
    ),
    ("clients are not kept", "Local in the hosts' network"): Break(
        compile, "Terms", lambda real: lambda **more: real(**{**more, "keep_source": False})
    ),
    ("Local is for everybody", "external Local"): instead(
        compile,
        "called_from_inside",
        lambda door, found: goes_on(Table.SERVICE, door.condition),
    ),
    ("Local is for everybody with ranges", "source ranges and Local"): without(
        compile, "inside_by_the_few"
    ),
    ("source ranges are not looked at", "source ranges"): Break(
        compile, "called_by_the_few", by_everybody
    ),
    ("who is in no source range is refused", "source ranges"): less(
        compile, "called_by_the_few", lambda f: not f.actions
    ),
    ("every node is ill", "health checks"): instead(
        compile, "healthy_here", lambda door, found: goes_on(Table.NODE_PORT, door.condition)
    ),
    ("there are no hints for zones", "hints for zones"): without(compile, "_in_zone"),
    ("there are no hints for nodes", "hints for nodes"): Break(
        compile,
        "_hinted",
        lambda real: (
            lambda port, name, *rest: iter(()) if name == "node" else real(port, name, *rest)
        ),
    ),
    ("hinted endpoints are numbered like all", "hints for several"): Break(
        compile, "balance_instead", to_everywhere
    ),
    # which endpoints
    ("what drains is not used", "draining ones alone"): choice(
        everywhere=lambda found, _: targets(found, lambda e: e.ready)
    ),
    ("what drains is used always", "draining beside ready ones"): choice(
        everywhere=lambda found, _: targets(found, lambda e: e.ready or e.terminating)
    ),
    ("everything is used", "endpoints that are not ready"): choice(
        everywhere=lambda found, _: targets(found, lambda e: True)
    ),
    ("hints of some are enough", "hints for some"): choice(
        zones=lambda found, _: grouped(found, lambda e: e.ready, lambda e: e.zones)
    ),
    ("what drains has hints", "hints of what drains"): choice(
        zones=lambda found, _: grouped(found, lambda e: True, lambda e: e.zones)
    ),
    ("Local is everywhere", "external Local"): choice(
        local=lambda found, chosen: dict.fromkeys(("node-1", "node-2"), chosen.everywhere)
    ),
    ("what drains is not local", "Local and draining"): choice(
        local=lambda found, _: grouped(found, lambda e: e.ready, lambda e: [e.node])
    ),
    ("what drains is local always", "Local and several on a node"): choice(
        local=lambda found, _: grouped(found, lambda e: True, lambda e: ["node-1"])
    ),
    ("what drains is healthy", "health checks of what drains"): choice(
        healthy=lambda found, _: frozenset(e.node for e in found.values())
    ),
    ("the first copy counts", "slices that disagree"): instead(
        endpoints, "_standing", lambda endpoint: 0
    ),
    ("services are endpoints", "a service as an endpoint"): candidates_of(
        lambda each, port: (each.name, each.protocol) == (port.name, port.protocol)
    ),
    ("ports of slices are known by their protocol", "several ports"): candidates_of(
        lambda each, port: each.protocol == port.protocol
    ),
    # who has what
    ("the younger one has it", "a node port of two services"): Break(
        doors,
        "_standing",
        lambda real: (
            lambda one, entrance: (
                entrance.way is not doors.Way.CLUSTER,
                "".join(chr(300 - ord(c)) for c in one.created),
                one.ref,
            )
        ),
    ),
    ("cluster addresses may be taken", "a cluster address taken"): instead(
        objections, "_why_not", lambda *_: None
    ),
    ("addresses of pods may be taken", "an address in a pod range"): instead(
        objections, "_why_not", lambda *_: None
    ),
    ("addresses are of any family", "an address of another family"): instead(
        doors, "addresses", in_any_family
    ),
    ("headless services are forwarded for", "headless"): Break(doors, "_all", headless_too),
    ("source ranges are a last resort", "an address of two ways"): Break(
        doors, "addresses", sources_last
    ),
}


@pytest.mark.parametrize(
    ("scene", "broken"),
    [(scene, broken) for (_, scene), broken in BREAKS.items()],
    ids=[name for name, _ in BREAKS],
)
def test_a_broken_compiler_disagrees_with_the_evaluator(
    scene: str, broken: Break, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply(broken, monkeypatch)
    carriage = ServiceCarriage.serving(SCENES[scene])
    found = (as_it_comes(carriage.services, call) for call in scene_calls(SCENES[scene]))
    assert any(disagreement(carriage, call) for call in found if call is not None)


def apply(broken: Break, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(broken.place, broken.name, broken.broken(getattr(broken.place, broken.name)))


# --- what shows only over time, or beside others ---

Scenario = Callable[[], None]


def of(test: Callable[..., None], *arguments: Any) -> Scenario:
    return partial(test, *arguments)


SERVICE_ADDRESSES = ("10.244.1.2", "10.244.2.2")

CONNECTION_BREAKS: dict[str, tuple[Break, Scenario]] = {
    "one client's endpoint is everybody's": (
        Break(service, "_remembering", from_everybody),
        of(connections.test_every_client_is_remembered_by_itself),
    ),
    "sources are kept as the traffic policy says now": (
        instead(service, "_KEEP_AS_BEFORE", SetField(Field.REG2, 0)),
        of(
            connections.test_whom_an_endpoint_sees_does_not_change_while_a_connection_lives,
            "external",
            "",
        ),
    ),
    "hints do not count for who is remembered": (
        without(compile, "forgotten"),
        of(
            connections.test_an_endpoint_that_hints_mean_for_others_now_is_forgotten,
            "a pod",
            "zones",
        ),
    ),
    "only hints for zones count for who is remembered": (
        Break(compile, "_hinted", forgets_zones_alone),
        of(
            connections.test_hints_for_nodes_come_before_those_for_zones_also_for_whom_is_remembered
        ),
    ),
    "answers to the node are calls of its node ports": (
        less(
            serving,
            "towards_endpoints",
            lambda f: for_node(f) and any(t.field is Field.TCP_FLAGS for t in f.match),
        ),
        of(connections.test_the_node_may_call_pods_from_a_port_whose_number_is_that_of_a_node_port),
    ),
    "the service address has node ports": (
        Break(
            serving,
            "for_the_node",
            lambda real: lambda found: real((*found, *map(parse_address, SERVICE_ADDRESSES))),
        ),
        of(
            connections.test_a_client_may_call_from_a_port_whose_number_is_that_of_a_node_port,
            connections.HOST,
            "UDP",
        ),
    ),
    "refused connections meet policies": (
        without(serving, "refusals"),
        of(policies.test_no_policy_is_asked_about_calls_that_are_refused),
    ),
}


@pytest.mark.parametrize(
    ("broken", "scenario"), CONNECTION_BREAKS.values(), ids=CONNECTION_BREAKS.keys()
)
def test_a_broken_compiler_ends_or_moves_connections(
    broken: Break, scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario()
    apply(broken, monkeypatch)
    with pytest.raises(AssertionError):
        scenario()


# --- what shows only in some orders ---


def told_nobody(real: Any) -> Any:
    """Who has a clash with others tells them nothing."""

    def found(self: Any, one: Any, wanted: Any) -> Any:
        list(real(self, one, wanted))
        return iter(())

    return found


def without_dirt(place: Any, name: str) -> Break:
    """A break in which an event makes no service be compiled anew."""

    def broken(real: Any) -> Any:
        def heard(self: Any, *args: Any) -> Any:
            before = set(self._dirty)
            real(self, *args)
            self._dirty = before

        return heard

    return Break(place, name, broken)


def settles_nothing(real: Any) -> Any:
    def heard(self: Any, addresses: Any) -> Any:
        real(self, addresses)
        self._unsettled.clear()

    return heard


def begins_empty(real: Any) -> Any:
    def found(self: Any, zone: str) -> Any:
        if zone:
            self._zones.setdefault(zone, board.Commons(self._fingerprint))
        return real(self, zone)

    return found


ORDER_BREAKS = {
    "mentions of addresses are not kept": deaf(board.Board, "_mention"),
    "who loses an address is not told": Break(doors.Claims, "add", told_nobody),
    "who gets an address is not told": Break(doors.Claims, "remove", told_nobody),
    "pod ranges change nothing": without_dirt(board.Board, "set_pod_ranges"),
    "slices that come change nothing": without_dirt(board.Board, "put_slice"),
    "slices that go change nothing": without_dirt(board.Board, "_take_out"),
    "nodes that have services' addresses change nothing": Break(
        board.Board, "set_node_addresses", settles_nothing
    ),
    "what is shared goes with the first who leaves": Break(
        board.Board,
        "_count",
        lambda real: lambda self, one, step: real(self, one, step if step > 0 else -9),
    ),
    "zones that are new are empty": Break(board.Board, "commons", begins_empty),
    "nodes that are new have nothing of their own": instead(
        board.Board, "blocks_on", lambda self, name: ()
    ),
    "nodes stay in their zone": deaf(Ledger, "move"),
    "zones are not followed": Break(
        board.Board,
        "take_changes",
        lambda real: lambda self: replace(real(self), zones={}),
    ),
    "single nodes are not followed": Break(
        board.Board,
        "take_changes",
        lambda real: lambda self: replace(real(self), nodes={}),
    ),
    "services that go stay": deaf(board.Board, "drop_service"),
}

_quickly = settings(
    max_examples=400,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("broken", ORDER_BREAKS.values(), ids=ORDER_BREAKS.keys())
def test_a_broken_engine_ends_in_another_state(
    broken: Break, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply(broken, monkeypatch)
    inner = (
        orders.test_any_order_of_events_ends_in_the_flows_of_the_final_state.hypothesis.inner_test
    )
    test = _quickly(given(orders.STATES, orders.STATES, orders.RANDOMS)(inner))
    with pytest.raises((AssertionError, LookupError)):
        test()
