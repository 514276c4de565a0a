"""Who has which address and port, with one rule broken on purpose: a scenario must notice."""

from __future__ import annotations

import test_services_addresses as addressing
import test_services_clashes as clashing
import test_services_memory_and_health as remembering
import test_services_traffic_policies as policies
from msgspec.structs import replace
from service_breaks import Break, Scenario, always, each, instead, notices, of
from service_objects import outside_at, pod_on

from ovsnet.model import Protocol, parse_address
from ovsnet.services import claims, evaluate, objections
from ovsnet.services.claims import Face, Hindrance


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


OLDER = clashing.test_the_older_service_has_a_node_port_that_two_want
POD, OUTSIDE = pod_on(1), outside_at(1)
OLD, NEW = clashing.OLD, clashing.NEW
BREAKS: dict[str, tuple[Break, Scenario]] = {
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
    "all families have health checks": (
        Break(evaluate, "_outcome", of_both_families),
        of(
            remembering.test_nobody_answers_health_checks_in_a_family_that_the_service_does_not_have
        ),
    ),
}


@each(BREAKS)
def test_broken_claims_are_noticed(broken: Break, scenario: Scenario) -> None:
    assert notices(scenario, broken)
