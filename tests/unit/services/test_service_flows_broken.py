"""The compiled flows of services with one rule broken on purpose: the comparison with the
evaluator, or a test of connections, must notice. A suite that cannot fail proves nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import test_service_affinity as affinity
import test_service_connections as connections
import test_service_policies as policies
from msgspec.structs import replace
from service_breaks import Break, Scenario, each, instead, notices, of
from service_flow_breaks import deaf, goes_on, in_scenes, less, nothing, shows, without
from service_scenes import HOST

from ovsnet.controller import network
from ovsnet.controller.services import board, compile
from ovsnet.flows import balance, node, pod, service, serving
from ovsnet.flows.fields import CtState, Field
from ovsnet.flows.flow import Block, Flow, SetField, match
from ovsnet.flows.registers import AFFINE, FOR_NODE, INSIDE
from ovsnet.flows.terms import in_port
from ovsnet.model import parse_address
from ovsnet.names import TUNNEL_OFPORT, Table


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
}


@in_scenes(BREAKS)
def test_broken_flows_disagree_with_the_evaluator(scene: str, broken: Break) -> None:
    assert shows(scene, broken)


# --- what shows only over time, or beside others ---

SERVICE_ADDRESSES = ("10.244.1.2", "10.244.2.2")

CONNECTION_BREAKS: dict[str, tuple[Break, Scenario]] = {
    "one client's endpoint is everybody's": (
        Break(service, "_remembering", from_everybody),
        of(affinity.test_every_client_is_remembered_by_itself),
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
            affinity.test_an_endpoint_that_hints_mean_for_others_now_is_forgotten,
            "a pod",
            "zones",
        ),
    ),
    "only hints for zones count for who is remembered": (
        Break(compile, "_hinted", forgets_zones_alone),
        of(affinity.test_hints_for_nodes_come_before_those_for_zones_also_for_whom_is_remembered),
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
            HOST,
            "UDP",
        ),
    ),
    "refused connections meet policies": (
        without(serving, "refusals"),
        of(policies.test_no_policy_is_asked_about_calls_that_are_refused),
    ),
}


@each(CONNECTION_BREAKS)
def test_broken_flows_end_or_move_connections(broken: Break, scenario: Scenario) -> None:
    assert notices(scenario, broken)
