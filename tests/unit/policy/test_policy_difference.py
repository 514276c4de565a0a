"""What a plan says changes: exactly the traffic on which the evaluator changes its verdict."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from policy_objects import block, namespace, node, peer, pod, policy, port, rule
from policy_strategies import changes, clusters, traffics

from ovsnet.model import Phase, PodRef, Protocol
from ovsnet.policy.difference import Change, Difference, difference
from ovsnet.policy.evaluate import evaluate
from ovsnet.policy.networks import Part
from ovsnet.policy.rules import NUMBERS
from ovsnet.policy.world import World, node_addresses, parties

NODES = (node(1), node(2))
NAMESPACES = (namespace("shop", "team=a"), namespace("bank", "team=b"))
WEB = pod("shop/web", "app=web", node=1, host=4)
DB = pod("shop/db", "app=db", node=2, host=3, ports=["sql=5432"])
TELLER = pod("bank/teller", "app=teller", node=2, host=5, ports=["sql=3306"])
PODS = (WEB, DB, TELLER)
ANYWHERE = {Part(ip_network("0.0.0.0/0")), Part(ip_network("::/0"))}


def cluster(*policies, pods=PODS, namespaces=NAMESPACES):
    return World.of(namespaces, pods, NODES, policies)


def lines(changes: tuple[Change, ...]) -> set[str]:
    return {
        f"{' '.join(map(str, c.sources))} > {' '.join(map(str, c.destinations))}"
        f" v{''.join(map(str, c.families))}: {'; '.join(map(str, c.traffic))}"
        for c in changes
    }


EVERYTHING = "TCP; UDP; SCTP; other protocols"


def test_nothing_differs_between_equal_worlds():
    world = cluster(policy("shop/closed", ingress=[rule([peer("app=web")])]))
    assert difference(world, world) == Difference()
    assert not difference(world, cluster(*world.policies.values()))


def test_a_policy_that_allows_what_was_allowed_changes_nothing():
    assert not difference(cluster(), cluster(policy("shop/open", ingress=[rule()])))
    assert difference(cluster(), cluster(policy("shop/open", ingress=[rule([])])))


def test_default_deny_denies_everything_from_everybody():
    found = difference(cluster(), cluster(policy("shop/closed", "app=db", ingress=[])))
    assert found.allowed == ()
    assert lines(found.denied) == {
        f"bank/teller shop/web > shop/db v46: {EVERYTHING}",
        f"0.0.0.0/0 > shop/db v4: {EVERYTHING}",
        f"::/0 > shop/db v6: {EVERYTHING}",
    }
    assert sorted(change.pairs for change in found.denied) == [1, 1, 2]


def test_the_way_back_is_the_same_with_allowed_and_denied_exchanged():
    closed, open_ = cluster(policy("shop/closed", ingress=[], egress=[])), cluster()
    there, back = difference(open_, closed), difference(closed, open_)
    assert (there.allowed, there.denied) == (back.denied, back.allowed)
    assert there


def test_ports_come_as_ranges_cut_where_any_policy_of_either_world_cuts_them():
    before = cluster(policy("shop/db", "app=db", ingress=[rule([peer("app=web")], [port(80, 90)])]))
    after = cluster(
        policy(
            "shop/db",
            "app=db",
            ingress=[
                rule([peer("app=web")], [port(85, 95), port(96), port(53, protocol=Protocol.UDP)])
            ],
        )
    )
    found = difference(before, after)
    assert lines(found.allowed) == {"shop/web > shop/db v46: TCP 91-96; UDP 53"}
    assert lines(found.denied) == {"shop/web > shop/db v46: TCP 80-84"}


def test_a_named_port_is_what_each_destination_declares():
    def egress(*ports):
        return policy("shop/web", "app=web", egress=[rule([peer("", "")], ports)])

    found = difference(cluster(egress(port(1))), cluster(egress(port(1), port("sql"))))
    assert lines(found.allowed) == {
        "shop/web > shop/db v46: TCP 5432",
        "shop/web > bank/teller v46: TCP 3306",
    }
    assert found.denied == ()


def test_what_the_other_end_denies_all_the_time_is_no_change():
    closed = policy("bank/closed", ingress=[])
    web = policy("shop/web", "app=web", egress=[])
    found = difference(cluster(closed, web), cluster(closed))
    assert lines(found.allowed) == {
        f"shop/web > shop/db v46: {EVERYTHING}",
        f"shop/web > 0.0.0.0/0 v4: {EVERYTHING}",
        f"shop/web > ::/0 v6: {EVERYTHING}",
    }


def test_a_named_port_whose_number_changes_is_cut_at_both():
    db = policy("shop/db", "app=db", ingress=[rule(None, [port("sql")])])
    replaced = replace(DB, ports=(replace(DB.ports[0], port=5433),))
    found = difference(cluster(db), cluster(db, pods=(WEB, replaced, TELLER)))
    assert {str(*change.traffic) for change in found.allowed} == {"TCP 5433"}
    assert {str(*change.traffic) for change in found.denied} == {"TCP 5432"}


def test_pods_of_equal_labels_in_different_namespaces_are_told_apart():
    strangers = (WEB, DB, pod("bank/web", "app=web", node=2, host=6))
    db = policy("shop/db", "app=db", ingress=[])
    for peers in ([peer("app=web")], [peer("app=web", "team=a")], [peer(None, "team=a")]):
        opened = policy("shop/db", "app=db", ingress=[rule(peers, [port(80)])])
        found = difference(cluster(db, pods=strangers), cluster(opened, pods=strangers))
        assert lines(found.allowed) == {"shop/web > shop/db v46: TCP 80"}


@pytest.mark.parametrize("direction", ["ingress", "egress"])
def test_pairs_are_put_together_to_the_fewest_changes(direction):
    pods = [pod(f"shop/{name}", f"app={name}", host=n) for n, name in enumerate("ab123", 3)]

    def policies(*rules_of_a_and_b):
        return [
            policy(f"shop/{name}", f"app={name}", **{direction: rules})
            for name, rules in zip("ab", rules_of_a_and_b, strict=True)
        ]

    found = difference(
        cluster(*policies([], []), pods=pods),
        cluster(*policies([rule([peer("app in 1 3")])], [rule([peer("app in 2 3")])]), pods=pods),
    )
    pairs = [("shop/1 shop/3", "shop/a"), ("shop/2 shop/3", "shop/b")]
    assert lines(found.allowed) == {
        f"{one} > {other} v46: {EVERYTHING}"
        for one, other in (pair[:: 1 if direction == "ingress" else -1] for pair in pairs)
    }


def test_blocks_divide_the_outside_and_the_parts_are_ends():
    before = cluster(policy("shop/db", "app=db", ingress=[rule([block("203.0.113.0/24")])]))
    after = cluster(
        policy("shop/db", "app=db", ingress=[rule([block("203.0.0.0/16", "203.0.113.128/25")])])
    )
    found = difference(before, after)
    assert lines(found.allowed) == {
        f"203.0.0.0/16 without 203.0.113.0/24 > shop/db v4: {EVERYTHING}"
    }
    assert lines(found.denied) == {f"203.0.113.128/25 > shop/db v4: {EVERYTHING}"}


def test_a_block_that_holds_pods_is_about_them_by_name():
    ingress = [rule([block("10.244.0.0/16")])]
    found = difference(
        cluster(policy("shop/db", "app=db", ingress=[])),
        cluster(policy("shop/db", "app=db", ingress=ingress)),
    )
    assert lines(found.allowed) == {
        f"bank/teller shop/web 10.244.0.0/16 > shop/db v4: {EVERYTHING}"
    }
    single = [rule([block("10.244.1.4/32")])]
    found = difference(
        cluster(policy("shop/db", "app=db", ingress=[])),
        cluster(policy("shop/db", "app=db", ingress=single)),
    )
    assert lines(found.allowed) == {f"shop/web > shop/db v4: {EVERYTHING}"}


def test_a_block_of_a_nodes_address_is_that_node_for_pods_of_other_nodes():
    found = difference(
        cluster(policy("shop/db", "app=db", ingress=[])),
        cluster(policy("shop/db", "app=db", ingress=[rule([block("172.18.0.1/32")])])),
    )
    assert lines(found.allowed) == {f"172.18.0.1/32 > shop/db v4: {EVERYTHING}"}


def test_new_labels_of_a_pod_and_of_a_namespace_change_what_is_allowed():
    db = policy("shop/db", "app=db", ingress=[rule([peer(None, "team=c")], [port(5432)])])
    moved = (NAMESPACES[0], namespace("bank", "team=c"))
    found = difference(cluster(db), cluster(db, namespaces=moved))
    assert lines(found.allowed) == {"bank/teller > shop/db v46: TCP 5432"}
    assert found.denied == ()
    relabelled = (replace(WEB, labels=(("app", "db"),)), DB, TELLER)
    found = difference(cluster(db), cluster(db, pods=relabelled))
    assert found.allowed == ()
    assert lines(found.denied) == {
        f"bank/teller shop/db > shop/web v46: {EVERYTHING}",
        f"0.0.0.0/0 > shop/web v4: {EVERYTHING}",
        f"::/0 > shop/web v6: {EVERYTHING}",
    }


def test_a_rule_that_means_a_lone_pod_itself_changes_nothing():
    before = cluster(policy("shop/db", "app=db", ingress=[]))
    after = cluster(policy("shop/db", "app=db", ingress=[rule([peer("app=db")])]))
    assert difference(before, after) == Difference()
    twin = pod("shop/twin", "app=db", node=1, host=9)
    two = [replace(world, pods=world.pods | {twin.ref: twin}) for world in (before, after)]
    assert lines(difference(*two).allowed) == {
        f"shop/db shop/twin > shop/db shop/twin v46: {EVERYTHING}"
    }


def test_pods_that_lose_each_other_are_at_both_ends_of_one_change():
    found = difference(
        cluster(), cluster(policy("shop/closed", ingress=[rule([peer(None, "team=b")])]))
    )
    (change,) = (c for c in found.denied if c.families == (4, 6))
    assert change.sources == change.destinations == (DB.ref, WEB.ref)
    # Neither to itself.
    assert change.pairs == 2


@pytest.mark.parametrize(
    "other",
    [
        pod("lab/x", "app=web", host=9, host_network=True),
        pod("lab/x", "app=web", host=9, phase=Phase.FAILED),
        pod("lab/x", "app=web", host=None),
    ],
)
def test_pods_outside_the_network_are_no_ends(other):
    before = cluster(pods=[WEB, other])
    after = cluster(policy("shop/closed", ingress=[]), pods=[WEB, other])
    ends = {end for change in difference(before, after).denied for end in change.sources}
    assert ends == ANYWHERE


def test_pods_of_one_world_alone_are_no_ends():
    before = cluster(pods=[WEB, DB])
    after = cluster(policy("shop/closed", "app=web", ingress=[]), pods=[WEB, TELLER])
    ends = {end for change in difference(before, after).denied for end in change.sources}
    assert ends == ANYWHERE


def test_hundreds_of_pods_that_behave_alike_are_one_change():
    crowd = [
        pod(f"shop/web-{n}", f"app=web; index={n}", node=1 + n % 2, host=10 + n // 2)
        for n in range(400)
    ]
    found = difference(
        cluster(pods=[*crowd, DB]),
        cluster(policy("shop/db", "app=db", ingress=[rule([peer("app=db")])]), pods=[*crowd, DB]),
    )
    assert found.allowed == ()
    (change,) = (c for c in found.denied if c.families == (4, 6))
    assert set(change.sources) == {pod.ref for pod in crowd}
    assert change.destinations == (DB.ref,)
    assert change.pairs == 400


def place(world, address):
    """The end that an address belongs to: a pod of the network or, as None, a part."""
    pod = parties(world, address)[0].pod
    return None if pod is None else pod.ref


def means(end, address, ref):
    if isinstance(end, PodRef):
        return end == ref
    return (
        ref is None
        and address in end.network
        and not any(address in network for network in end.without)
    )


def covers(change, traffic, source, destination):
    if (
        traffic.source.version not in change.families
        or (source is not None and source == destination)
        or not any(means(end, traffic.source, source) for end in change.sources)
        or not any(means(end, traffic.destination, destination) for end in change.destinations)
    ):
        return False
    for ports in change.traffic:
        if ports.protocol is None:
            if traffic.protocol not in NUMBERS.values():
                return True
        elif traffic.protocol == NUMBERS[ports.protocol]:
            return any(span.first <= traffic.port <= span.last for span in ports.spans)
    return False


def involves_own_node(world, traffic):
    for one, other in (
        (traffic.source, traffic.destination),
        (traffic.destination, traffic.source),
    ):
        pod = parties(world, one)[0].pod
        if pod is not None and other in node_addresses(world.nodes[pod.node]):
            return True
    return False


@given(
    clusters().flatmap(
        lambda world: st.tuples(st.just(world), changes(world)).flatmap(
            lambda worlds: st.tuples(
                st.just(worlds), st.lists(traffics(worlds[1]), min_size=20, max_size=20)
            )
        )
    )
)
def test_the_difference_is_where_the_evaluator_changes_its_verdict(case):
    (before, after), tried = case
    found = difference(before, after)
    for traffic in tried:
        was, will = evaluate(before, traffic).allowed, evaluate(after, traffic).allowed
        ends = place(before, traffic.source), place(before, traffic.destination)
        if involves_own_node(before, traffic):
            # The part that has a node's address speaks of pods of other nodes alone.
            assert was is will is True
            continue
        for changes_, expected in (
            (found.allowed, will and not was),
            (found.denied, was and not will),
        ):
            covering = [c for c in changes_ if covers(c, traffic, *ends)]
            assert len(covering) == int(expected), traffic


def test_parts_keep_clear_of_the_addresses_that_pods_have():
    taken = ip_address("203.0.113.0")
    claimed = replace(WEB, addresses=(taken, ip_address("2001:db8::")))
    found = difference(
        cluster(policy("shop/db", "app=db", ingress=[]), pods=[claimed, DB]),
        cluster(
            policy(
                "shop/db",
                "app=db",
                ingress=[rule([block("203.0.113.0/32"), block("2001:db8::/127")])],
            ),
            pods=[claimed, DB],
        ),
    )
    assert lines(found.allowed) == {
        f"shop/web > shop/db v46: {EVERYTHING}",
        f"2001:db8::/127 > shop/db v6: {EVERYTHING}",
    }
