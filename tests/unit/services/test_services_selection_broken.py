"""Which endpoints may take a call, with one rule broken on purpose: a scenario must notice."""

from __future__ import annotations

import test_services_addresses as addressing
import test_services_endpoints as endpoints
from msgspec.structs import replace
from service_breaks import Break, Scenario, always, each, instead, notices, of

from ovsnet.services import evaluate, selection
from ovsnet.services.world import World


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


BREAKS: dict[str, tuple[Break, Scenario]] = {
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
}


@each(BREAKS)
def test_a_broken_selection_is_noticed(broken: Break, scenario: Scenario) -> None:
    assert notices(scenario, broken)
