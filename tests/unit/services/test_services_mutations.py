"""The evaluator of services with one rule broken on purpose: a scenario must notice every one of
these breaks. Scenarios that cannot fail prove nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import pytest
import test_services_addresses as addressing
import test_services_clashes as clashing
import test_services_endpoints as endpoints
import test_services_memory_and_health as remembering
import test_services_traffic_policies as policies
from msgspec.structs import replace
from service_objects import outside_at, pod_on

from ovsnet.model import Protocol, parse_address
from ovsnet.services import claims, evaluate, objections, selection
from ovsnet.services.claims import Face, Hindrance
from ovsnet.services.world import Whence, World

Scenario = Callable[[], None]


class Break(NamedTuple):
    """A function of a module, and what stands in its place: made of the real one."""

    module: Any
    name: str
    broken: Callable[[Any], Any]


def instead(module: Any, name: str, value: Any) -> Break:
    """A break that puts a value in a place, whatever was there."""
    return Break(module, name, lambda _: value)


def always(module: Any, name: str, result: Any) -> Break:
    """A break that makes a function return one result, whatever it is asked."""
    return instead(module, name, lambda *_: result)


# --- who has what ---


def all_services(world):
    return sorted(world.services.values(), key=lambda service: (service.created, service.ref))


def only_by_age(world):
    ours = [service for service in world.services.values() if service.addresses]
    return sorted(ours, key=lambda service: service.created)


def only_by_name(world):
    return sorted((s for s in world.services.values() if s.addresses), key=lambda s: s.ref)


def without_face(face):
    return Break(
        claims, "claims", lambda real: lambda service: (c for c in real(service) if c.face != face)
    )


def in_any_family(service):
    yield from ((Face.CLUSTER, a) for a in service.addresses)
    yield from ((Face.LOAD_BALANCER, a) for a in service.load_balancer)
    yield from ((Face.EXTERNAL, a) for a in service.external)


def external_first(real):
    return lambda service: sorted(real(service), key=lambda found: found[0] != Face.EXTERNAL)


def whatever_protocol(real):
    def found(world, spot):
        tried = (real(world, spot._replace(protocol=protocol)) for protocol in Protocol)
        return next((claim for claim in tried if claim is not None), None)

    return found


def of_both_families(real):
    def found(world, claim, client):
        service = replace(claim.service, families=(4, 6))
        return real(world, claim._replace(service=service), client)

    return found


def only_pod_ranges(real):
    def found(world, service, face, address):
        reason = real(world, service, face, address)
        return reason if reason is Hindrance.POD_RANGE else None

    return found


def ones_own_too(real):
    def found(world, service, face, address):
        if face is not Face.CLUSTER and address in service.addresses:
            return Hindrance.CLUSTER_ADDRESS
        return real(world, service, face, address)

    return found


def every_nodes(real):
    return lambda world, _: tuple(a for name in world.nodes for a in real(world, name))


def with_gateway(real):
    return lambda world, name: (
        *real(world, name),
        *(r[1] for r in world.nodes[name].pod_cidrs),
    )


def with_loopback(real):
    loopback = (parse_address("127.0.0.1"), parse_address("::1"))
    return lambda world, name: (*real(world, name), *loopback)


def not_refused_where_ports_are_missing(real):
    return lambda world, call, place: (
        (None if call.protocol is None else real(world, call, place))
        or real(world, replace(call, protocol=Protocol.TCP, port=80), place)
    )


def onward_with_its_address(real):
    def found(world, call):
        arrived = real(world, call)
        if arrived is None:
            return None
        return replace(arrived, client=replace(arrived.client, address=call.client.address))

    return found


# --- which endpoints ---


def with_slices_as(change):
    """The candidates of a world whose slices are changed."""

    def broken(real):
        def found(world, service, port, family):
            slices = {ref: change(one, service) for ref, one in world.slices.items()}
            return real(World(world.nodes, world.services, slices), service, port, family)

        return found

    return Break(evaluate, "candidates", broken)


def first_slice_only(real):
    def found(world, service, port, family):
        mine = sorted(ref for ref, one in world.slices.items() if one.owner == service.ref)
        slices = {ref: world.slices[ref] for ref in mine[:1]}
        return real(World(world.nodes, world.services, slices), service, port, family)

    return found


def numbers_by(*fields):
    def numbers(one, port):
        same = [p for p in one.ports if all(getattr(p, f) == getattr(port, f) for f in fields)]
        return (p.port for p in same)

    return instead(selection, "_numbers", numbers)


def of_any_family(real):
    return lambda world, service, port, _: (
        *real(world, service, port, 4),
        *real(world, service, port, 6),
    )


def cluster_addresses_of_all(world, _):
    return {a: service for service in world.services.values() for a in service.addresses}


def ready_and_draining(known):
    return tuple(c for c in known if selection._ready(c) or selection._draining(c))


def some_have_hints(known, name, hints):
    return tuple(candidate for candidate in known if name in hints(candidate.entry))


def no_way_back(real):
    def found(known, name, hints):
        fitting = real(known, name, hints)
        hinted = all(hints(candidate.entry) for candidate in known)
        return fitting or (known[:1] if hinted else ())

    return found


def zones_first(known, node, zone):
    found = selection.usable(known)
    return (
        selection._hinted(found, zone, lambda entry: entry.zones)
        or selection._hinted(found, node, lambda entry: entry.nodes)
        or found
    )


def whatever_conditions(known, node, zone):
    known = tuple(known)
    found = selection._hinted(known, node, lambda entry: entry.nodes) or selection._hinted(
        known, zone, lambda entry: entry.zones
    )
    return selection.usable(found or known)


def hints_for_those_that_drain(known, node, zone):
    found = selection.usable(known)
    return (
        selection._hinted(found, node, lambda entry: entry.nodes)
        or selection._hinted(found, zone, lambda entry: entry.zones)
        or found
    )


def of_the_usable_ones(known, node):
    return tuple(c for c in selection.usable(known) if c.entry.node == node)


def with_hints(known, node):
    local = [c for c in known if c.entry.node == node]
    return tuple(c for c in selection.usable(local) if node in (c.entry.nodes or (node,)))


# --- which policy, and who is kept out ---


def cluster_only_of_internal(claim, client):
    outside = client.whence is Whence.OUTSIDE
    return claim.service.internal_local or (claim.service.external_local and outside)


def inside_too(claim, client):
    internal, external = claim.service.internal_local, claim.service.external_local
    return internal if claim.face is Face.CLUSTER else external


def external_for_all(claim, client):
    if claim.face is Face.CLUSTER and claim.service.internal_local:
        return True
    return claim.service.external_local and client.whence is Whence.OUTSIDE


def pods_only(claim, client):
    if claim.face is Face.CLUSTER:
        return claim.service.internal_local
    return claim.service.external_local and client.whence is not Whence.POD


def in_ranges(claim, client):
    sources = claim.service.sources
    return sources is None or any(client.address in network for network in sources)


def none_means_all(real):
    return lambda claim, client: not claim.service.sources or real(claim, client)


def for_the_outside(real):
    return lambda claim, client: client.whence is not Whence.OUTSIDE or real(claim, client)


def of_its_own_family(real):
    def admitted(claim, client):
        sources = claim.service.sources or ()
        return real(claim, client) or all(n.version != client.address.version for n in sources)

    return admitted


# --- whose address is seen ---


def kept_if(test):
    """A break that also keeps the address of those who pass a test."""
    return Break(
        evaluate,
        "_kept",
        lambda real: (
            lambda world, claim, client, e: real(world, claim, client, e) or test(claim, client, e)
        ),
    )


def kept_only_if(test):
    return Break(
        evaluate,
        "_kept",
        lambda real: (
            lambda world, claim, client, e: real(world, claim, client, e) and test(claim, client, e)
        ),
    )


# --- affinity and health ---


def always_sticky(real):
    def found(world, call, earlier):
        services = {ref: replace(s, affinity=1) for ref, s in world.services.items()}
        return real(World(world.nodes, services, world.slices), call, earlier)

    return found


def whatever_is_usable(real):
    def found(world, call, earlier):
        outcome = real(world, call, earlier)
        if isinstance(outcome, evaluate.Served):
            return replace(outcome, endpoints=frozenset({earlier}))
        return outcome

    return found


def healthy_if(test):
    def healthy(world, service, node):
        return any(
            test(candidate.entry, node)
            for port in service.ports
            for candidate in selection.candidates(world, service, port, 4)
        )

    return instead(evaluate, "healthy", healthy)


def first_port_only(real):
    return lambda world, service, *rest: real(
        world, replace(service, ports=service.ports[:1]), *rest
    )


def in_its_own_families(real):
    def found(world, service, node):
        slices = {
            ref: replace(one, endpoints=[e for e in one.endpoints if e.address.version == 4])
            for ref, one in world.slices.items()
        }
        return real(World(world.nodes, world.services, slices), service, node)

    return found


def of(scenario: Callable[..., None], *arguments: Any) -> Scenario:
    return partial(scenario, *arguments)


OLDER = clashing.test_the_older_service_has_a_node_port_that_two_want
POD, OUTSIDE = pod_on(1), outside_at(1)
OLD, NEW = clashing.OLD, clashing.NEW

BREAKS: dict[str, tuple[Break, Scenario]] = {
    # who has what
    "the youngest service has it": (
        Break(claims, "by_age", lambda real: lambda world: real(world)[::-1]),
        of(OLDER, OLD, NEW, clashing.WEB),
    ),
    "the first by name has it": (
        instead(claims, "by_age", only_by_name),
        of(OLDER, OLD, NEW, clashing.WEB),
    ),
    "names do not settle what age leaves open": (
        instead(claims, "by_age", only_by_age),
        of(clashing.test_names_decide_by_namespace_first),
    ),
    "headless services are served": (
        instead(claims, "by_age", all_services),
        of(addressing.test_a_service_without_a_cluster_address_is_left_to_dns),
    ),
    "the last port has it": (
        Break(claims, "claims", lambda real: lambda service: [*real(service)][::-1]),
        of(clashing.test_the_first_of_a_services_ports_has_what_two_of_them_want),
    ),
    **{
        f"no {face} leads to a service": (
            without_face(face),
            of(addressing.test_an_outcome_says_which_service_took_the_call_and_by_what),
        )
        for face in (Face.CLUSTER, Face.EXTERNAL, Face.LOAD_BALANCER, Face.NODE_PORT)
    },
    "there are no health checks": (
        without_face(Face.HEALTH_CHECK),
        of(remembering.test_a_node_is_healthy_if_it_has_a_ready_endpoint, outside_at),
    ),
    "addresses of any family are faces": (
        instead(claims, "addresses", in_any_family),
        of(addressing.test_a_service_has_no_face_in_a_family_that_it_does_not_have),
    ),
    "node ports are of both families": (
        Break(evaluate, "_outcome", of_both_families),
        of(addressing.test_a_service_has_no_face_in_a_family_that_it_does_not_have),
    ),
    "an external address hides that it is the load balancer's": (
        Break(claims, "addresses", external_first),
        of(policies.test_an_external_address_that_is_the_load_balancers_too_has_its_ranges),
    ),
    "protocols are one": (
        Break(evaluate, "holder", whatever_protocol),
        of(addressing.test_ports_that_a_service_does_not_have_are_refused_at_all_of_its_addresses),
    ),
    "what has no port is taken for a port": (
        Break(evaluate, "_claim", not_refused_where_ports_are_missing),
        of(addressing.test_ports_that_a_service_does_not_have_are_refused_at_all_of_its_addresses),
    ),
    "other ports of a service are nobody's": (
        always(evaluate, "owner", None),
        of(addressing.test_ports_that_a_service_does_not_have_are_refused_at_all_of_its_addresses),
    ),
    "a node's address is a service's with all its ports": (
        always(evaluate, "_is_a_nodes", False),
        of(addressing.test_an_external_address_that_is_a_nodes_leaves_the_node_its_other_ports),
    ),
    "pod ranges are open to services": (
        always(claims, "in_pod_range", False),
        of(
            addressing.test_an_address_in_a_pod_range_is_no_services_whatever_it_says,
            "external",
            "10.244.2.77",
        ),
    ),
    "cluster addresses may be taken by older services": (
        Break(claims, "hindrance", only_pod_ranges),
        of(
            addressing.test_a_cluster_address_is_no_other_services_external_address,
            "external",
            "2025",
        ),
    ),
    "one's own cluster address is objected to": (
        Break(objections, "hindrance", ones_own_too),
        of(clashing.test_another_services_cluster_address_is_objected_to_and_not_its_ports),
    ),
    "node ports are ports of every node": (
        Break(evaluate, "own_addresses", every_nodes),
        of(
            addressing.test_another_nodes_port_is_called_from_outside_with_the_first_nodes_address,
            POD,
        ),
    ),
    "node ports are no ports of the node port address": (
        instead(evaluate, "own_addresses", lambda world, name: world.nodes[name].addresses),
        of(addressing.test_a_node_port_is_a_port_of_every_address_of_the_node, POD),
    ),
    "node ports are ports of the gateway": (
        Break(evaluate, "own_addresses", with_gateway),
        of(
            addressing.test_a_node_port_is_no_port_of_the_gateway_nor_of_the_service_address,
        ),
    ),
    "node ports are ports of loopback addresses": (
        Break(evaluate, "own_addresses", with_loopback),
        of(addressing.test_a_node_port_is_none_at_a_loopback_address),
    ),
    "calls go on to another node with their own address": (
        Break(addressing, "onward", onward_with_its_address),
        of(
            addressing.test_another_nodes_port_is_called_from_outside_with_the_first_nodes_address,
            POD,
        ),
    ),
    "ports of impossible addresses are objected to": (
        always(objections, "possible", True),
        of(clashing.test_another_services_cluster_address_is_objected_to_and_not_its_ports),
    ),
    # which endpoints
    "slices of other namespaces count": (
        with_slices_as(lambda one, service: replace(one, namespace=service.namespace)),
        of(endpoints.test_a_slice_belongs_to_the_service_that_it_names_in_its_own_namespace),
    ),
    "slices of other services count": (
        with_slices_as(lambda one, service: replace(one, service=service.name)),
        of(endpoints.test_a_slice_belongs_to_the_service_that_it_names_in_its_own_namespace),
    ),
    "one slice counts": (
        Break(evaluate, "candidates", first_slice_only),
        of(endpoints.test_all_slices_of_a_service_count),
    ),
    "ports are known by their name": (
        numbers_by("name"),
        of(endpoints.test_a_slices_port_is_the_services_of_the_same_name_and_protocol),
    ),
    "ports are known by their protocol": (
        numbers_by("protocol"),
        of(endpoints.test_a_slices_port_is_the_services_of_the_same_name_and_protocol),
    ),
    "endpoints of both families count": (
        Break(evaluate, "candidates", of_any_family),
        of(addressing.test_slices_of_the_other_family_are_no_endpoints),
    ),
    "services are endpoints": (
        always(selection, "cluster_addresses", {}),
        of(
            endpoints.test_an_endpoint_that_is_a_services_cluster_address_is_left_out,
            ("10.96.0.2", "10.244.1.5"),
        ),
    ),
    "pods are no endpoints if a service wants their address": (
        instead(selection, "cluster_addresses", cluster_addresses_of_all),
        of(endpoints.test_a_pod_stays_an_endpoint_though_a_service_wants_its_address),
    ),
    "everything is ready": (
        always(selection, "_ready", True),
        of(endpoints.test_endpoints_that_are_not_ready_are_not_used_while_others_are, "unready"),
    ),
    "nothing drains": (
        always(selection, "_draining", False),
        of(endpoints.test_endpoints_that_drain_are_used_when_none_is_ready),
    ),
    "what serves drains": (
        instead(selection, "_draining", lambda candidate: candidate.entry.serving),
        of(endpoints.test_endpoints_that_neither_are_ready_nor_drain_are_none, "serving"),
    ),
    "what terminates drains": (
        instead(selection, "_draining", lambda candidate: candidate.entry.terminating),
        of(endpoints.test_endpoints_that_neither_are_ready_nor_drain_are_none, "gone"),
    ),
    "what is ready and terminates is not used": (
        instead(
            selection, "_ready", lambda candidate: candidate.entry.ready and candidate.entry.serving
        ),
        of(
            endpoints.test_endpoints_that_are_ready_are_used_whatever_else_is_said_of_them,
            "published",
        ),
    ),
    "what drains is used beside what is ready": (
        instead(selection, "usable", ready_and_draining),
        of(endpoints.test_endpoints_that_are_not_ready_are_not_used_while_others_are, "draining"),
    ),
    "the first copy of an endpoint counts": (
        always(selection, "_goodness", 0),
        of(endpoints.test_an_endpoint_is_ready_if_one_of_its_slices_says_so, ("unready", "ready")),
    ),
    "the worst copy of an endpoint counts": (
        Break(
            selection,
            "_goodness",
            lambda real: lambda candidate: tuple(not good for good in real(candidate)),
        ),
        of(endpoints.test_an_endpoint_is_ready_if_one_of_its_slices_says_so, ("ready", "unready")),
    ),
    "copies that drain are no better than others": (
        instead(selection, "_goodness", lambda candidate: candidate.entry.ready),
        of(
            endpoints.test_an_endpoint_drains_if_one_of_its_slices_says_so_and_none_that_it_is_ready,
            ("serving", "draining"),
        ),
    ),
    "the last slice by name says where an endpoint is": (
        instead(selection, "_name", lambda one: one.name[::-1] < "b"),
        of(endpoints.test_of_equally_good_copies_the_first_slice_by_name_says_where_it_is),
    ),
    "there are no hints": (
        always(selection, "_hinted", ()),
        of(endpoints.test_hints_for_zones_keep_traffic_in_the_zone_of_the_node),
    ),
    "hints of some endpoints are enough": (
        instead(selection, "_hinted", some_have_hints),
        of(endpoints.test_hints_count_only_if_every_ready_endpoint_has_them),
    ),
    "hints that do not fit count all the same": (
        Break(selection, "_hinted", no_way_back),
        of(endpoints.test_hints_count_only_if_one_fits),
    ),
    "zones come before nodes": (
        instead(evaluate, "everywhere", zones_first),
        of(endpoints.test_hints_for_nodes_come_before_those_for_zones),
    ),
    "what is not ready has a say in hints": (
        instead(evaluate, "everywhere", whatever_conditions),
        of(endpoints.test_endpoints_that_are_not_ready_have_no_say_in_hints),
    ),
    "hints hold for what drains": (
        instead(evaluate, "everywhere", hints_for_those_that_drain),
        of(endpoints.test_endpoints_that_drain_are_used_whatever_their_hints),
    ),
    # which policy
    "no policy is Local": (
        always(evaluate, "_only_here", False),
        of(policies.test_internal_local_keeps_calls_of_the_cluster_address_on_the_node),
    ),
    "the internal policy is for everything": (
        instead(evaluate, "_only_here", cluster_only_of_internal),
        of(policies.test_internal_local_says_nothing_about_other_addresses_and_node_ports),
    ),
    "the external policy is for clients inside, too": (
        instead(evaluate, "_only_here", inside_too),
        of(policies.test_clients_inside_reach_all_endpoints_though_external_is_local),
    ),
    "the external policy is for processes of nodes, too": (
        instead(evaluate, "_only_here", pods_only),
        of(policies.test_clients_inside_reach_all_endpoints_though_external_is_local),
    ),
    "the external policy is for cluster addresses, too": (
        instead(evaluate, "_only_here", external_for_all),
        of(policies.test_external_local_says_nothing_about_the_cluster_address),
    ),
    "Local is anywhere": (
        instead(evaluate, "here", lambda known, node: selection.usable(known)),
        of(policies.test_external_local_keeps_calls_from_outside_on_the_node),
    ),
    "Local does not fall back by itself": (
        instead(evaluate, "here", of_the_usable_ones),
        of(policies.test_local_falls_back_to_endpoints_that_drain_on_its_node_alone),
    ),
    "Local looks at hints": (
        instead(evaluate, "here", with_hints),
        of(policies.test_local_passes_over_hints),
    ),
    "what has no endpoint is dropped": (
        always(evaluate, "usable", True),
        of(addressing.test_a_service_without_an_endpoint_refuses_by_every_face),
    ),
    "what has no endpoint here is refused": (
        instead(evaluate, "Dropped", evaluate.Refused),
        of(policies.test_internal_local_drops_calls_where_only_other_nodes_have_an_endpoint),
    ),
    # who is kept out
    "source ranges keep nobody out": (
        always(evaluate, "_admitted", True),
        of(policies.test_source_ranges_keep_others_out_of_load_balancer_addresses),
    ),
    "source ranges are for every face": (
        instead(evaluate, "_admitted", in_ranges),
        of(policies.test_source_ranges_say_nothing_about_other_faces),
    ),
    "source ranges are for the outside": (
        Break(evaluate, "_admitted", for_the_outside),
        of(policies.test_source_ranges_keep_others_out_of_load_balancer_addresses),
    ),
    "no range that was understood admits everybody": (
        Break(evaluate, "_admitted", none_means_all),
        of(policies.test_ranges_of_which_none_was_understood_admit_nobody),
    ),
    "a family without ranges is open": (
        Break(evaluate, "_admitted", of_its_own_family),
        of(policies.test_ranges_of_one_family_admit_nobody_of_the_other),
    ),
    # whose address is seen
    "who calls himself sees himself": (
        always(evaluate, "_hidden", False),
        of(policies.test_a_pod_that_reaches_itself_sees_another_address),
    ),
    "all others are hidden from pods": (
        kept_only_if(lambda claim, client, e: client.whence is not Whence.POD),
        of(policies.test_pods_see_the_pod_that_calls_them_by_whatever_address),
    ),
    "what is no pod sees a pod": (
        kept_if(lambda claim, client, e: client.whence is Whence.POD),
        of(policies.test_what_is_no_pod_may_see_a_pods_or_a_nodes_address),
    ),
    "clients outside are hidden": (
        kept_only_if(lambda claim, client, e: client.whence is not Whence.OUTSIDE),
        of(policies.test_a_client_outside_is_seen_where_external_is_local),
    ),
    "clients outside are always seen": (
        kept_if(lambda claim, client, e: client.whence is Whence.OUTSIDE),
        of(policies.test_a_client_outside_may_be_seen_or_not_where_external_is_not_local),
    ),
    "clients outside are seen where internal is local": (
        kept_if(lambda claim, client, e: claim.service.internal_local),
        of(policies.test_a_client_outside_may_be_seen_or_not_by_a_cluster_address),
    ),
    "endpoints that are elsewhere see clients outside": (
        always(evaluate, "is_on", True),
        of(policies.test_an_endpoint_that_is_said_to_be_on_a_node_and_is_elsewhere_may_see_either),
    ),
    "processes of nodes are seen": (
        kept_if(lambda claim, client, e: client.whence is Whence.NODE),
        of(policies.test_a_process_of_a_node_may_be_seen_or_not, ""),
    ),
    # affinity and health
    "every service remembers its clients": (
        Break(remembering, "evaluate_again", always_sticky),
        of(remembering.test_without_affinity_a_client_may_reach_another_endpoint),
    ),
    "no service remembers its clients": (
        instead(
            remembering, "evaluate_again", lambda world, call, _: evaluate.evaluate(world, call)
        ),
        of(
            remembering.test_with_affinity_a_client_reaches_the_endpoint_that_it_had, "10.96.0.1:80"
        ),
    ),
    "clients are sent to what is gone": (
        Break(remembering, "evaluate_again", whatever_is_usable),
        of(remembering.test_an_endpoint_that_is_not_used_any_more_is_forgotten, "unready"),
    ),
    "what drains makes a node healthy": (
        healthy_if(lambda e, node: e.node == node and (e.ready or e.serving)),
        of(remembering.test_endpoints_that_are_not_ready_do_not_make_a_node_healthy, "draining"),
    ),
    "endpoints elsewhere make a node healthy": (
        healthy_if(lambda e, node: e.ready),
        of(remembering.test_a_node_is_healthy_if_it_has_a_ready_endpoint, outside_at),
    ),
    "one port makes a node healthy": (
        Break(evaluate, "healthy", first_port_only),
        of(remembering.test_an_endpoint_of_one_of_its_ports_is_enough),
    ),
    "one family makes a node healthy": (
        Break(evaluate, "healthy", in_its_own_families),
        of(
            remembering.test_health_is_the_same_in_both_families_of_a_service,
            "fd00:10:244:1::5",
        ),
    ),
    "all families have health checks": (
        Break(evaluate, "_outcome", of_both_families),
        of(
            remembering.test_nobody_answers_health_checks_in_a_family_that_the_service_does_not_have
        ),
    ),
}


@pytest.mark.parametrize(("broken", "scenario"), BREAKS.values(), ids=BREAKS.keys())
def test_a_broken_evaluator_is_noticed(
    broken: Break, scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario()
    real = getattr(broken.module, broken.name)
    monkeypatch.setattr(broken.module, broken.name, broken.broken(real))
    with pytest.raises(AssertionError):
        scenario()
