"""What becomes of a call, with one rule broken on purpose: a scenario must notice."""

from __future__ import annotations

import test_services_addresses as addressing
import test_services_memory_and_health as remembering
import test_services_traffic_policies as policies
from msgspec.structs import replace
from service_breaks import Break, Scenario, always, each, instead, notices, of
from service_objects import outside_at

from ovsnet.services import evaluate, selection
from ovsnet.services.claims import Face
from ovsnet.services.world import Whence, World

# --- which policy, and who is kept out ---


def of_the_usable_ones(known, node):
    return tuple(c for c in selection.usable(known) if c.entry.node == node)


def with_hints(known, node):
    local = [c for c in known if c.entry.node == node]
    return tuple(c for c in selection.usable(local) if node in (c.entry.nodes or (node,)))


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


BREAKS: dict[str, tuple[Break, Scenario]] = {
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
}


@each(BREAKS)
def test_a_broken_outcome_is_noticed(broken: Break, scenario: Scenario) -> None:
    assert notices(scenario, broken)
