"""The evaluator, clause by clause of the API's documentation: who is isolated, and what that does.

Every scenario has traffic that is allowed and traffic that is not. What peers and ports mean has
its own modules.
"""

import msgspec
import pytest
from hypothesis import given
from policy_objects import (
    block,
    namespace,
    node,
    peer,
    pod,
    policy,
    port,
    rule,
)
from policy_reach import ICMP, SCTP, UDP, end, reaches, verdict
from policy_strategies import clusters, traffics

from ovsnet.model import Direction, NetworkPolicy, Phase, PodRef, PolicyRef, RuleRef
from ovsnet.policy.evaluate import Reason, evaluate, isolating, pods_selected
from ovsnet.policy.world import World, addresses

ANYTHING = (rule(),)
NOTHING = ()
NODES = (node(1), node(2))
NAMESPACES = (namespace("shop", "team=a"), namespace("bank", "team=b"))
WEB = pod("shop/web", "app=web", node=1, host=6)
DB = pod("shop/db", "app=db", node=2, host=3)
CACHE = pod("shop/cache", "app=cache", node=1, host=4)
TELLER = pod("bank/teller", "app=web", node=2, host=5)
PODS = (WEB, DB, CACHE, TELLER)


def cluster(*policies, pods=PODS):
    return World.of(NAMESPACES, pods, NODES, policies)


# --- isolation ---


def test_without_policies_everybody_reaches_everybody():
    world = cluster()
    ends = ("shop/web", "shop/db", "bank/teller", "node/node-1", "node/node-2", "outside")
    for source in ends:
        for destination in ends:
            assert reaches(world, source, destination)
            assert reaches(world, source, destination, protocol=ICMP)


def test_a_policy_isolates_the_pods_that_it_selects_and_no_others():
    world = cluster(policy("shop/closed", "app=db", ingress=NOTHING))
    assert not reaches(world, "shop/web", "shop/db")
    assert reaches(world, "shop/web", "shop/cache")
    assert reaches(world, "shop/db", "shop/web")


def test_an_empty_pod_selector_isolates_every_pod_of_the_policys_namespace():
    world = cluster(policy("shop/closed", "", ingress=NOTHING))
    for destination in ("shop/web", "shop/db", "shop/cache"):
        assert not reaches(world, "bank/teller", destination)
    assert reaches(world, "shop/web", "bank/teller")


def test_a_policy_isolates_nobody_in_other_namespaces_whatever_their_labels():
    world = cluster(policy("shop/closed", "app=web", ingress=NOTHING))
    assert not reaches(world, "shop/db", "shop/web")
    assert reaches(world, "shop/db", "bank/teller")


def test_isolation_for_ingress_leaves_what_the_pod_sends_alone():
    world = cluster(policy("shop/closed", "app=web", ingress=NOTHING))
    for other in ("shop/db", "bank/teller", "node/node-2", "outside"):
        assert not reaches(world, other, "shop/web")
        assert reaches(world, "shop/web", other)


def test_isolation_for_egress_leaves_what_the_pod_receives_alone():
    world = cluster(policy("shop/quiet", "app=web", egress=NOTHING))
    for other in ("shop/db", "bank/teller", "node/node-2", "outside"):
        assert not reaches(world, "shop/web", other)
        assert reaches(world, other, "shop/web")


def test_a_policy_of_both_types_without_rules_allows_neither_direction():
    world = cluster(policy("shop/alone", "app=web", ingress=NOTHING, egress=NOTHING))
    assert not reaches(world, "shop/db", "shop/web")
    assert not reaches(world, "shop/web", "shop/db")
    assert reaches(world, "shop/db", "shop/cache")


def test_default_deny_stops_every_protocol():
    world = cluster(policy("shop/closed", ingress=NOTHING, egress=NOTHING))
    for protocol in ("TCP", UDP, SCTP, ICMP):
        assert not reaches(world, "bank/teller", "shop/web", protocol=protocol)
        assert not reaches(world, "shop/web", "bank/teller", protocol=protocol)
        assert reaches(world, "bank/teller", "outside", protocol=protocol)


def test_an_empty_rule_allows_everything_in_its_direction():
    world = cluster(policy("shop/open", ingress=ANYTHING, egress=NOTHING))
    for source in ("bank/teller", "node/node-2", "outside"):
        assert reaches(world, source, "shop/web")
        assert reaches(world, source, "shop/web", protocol=ICMP)
        assert not reaches(world, "shop/web", source)


@pytest.mark.parametrize(("named", "other"), [("ingress", "egress"), ("egress", "ingress")])
def test_rules_of_a_direction_that_the_policy_types_leave_out_do_nothing(named, other):
    direction = Direction.INGRESS if named == "ingress" else Direction.EGRESS
    restricting = {other: (rule([block("198.51.100.0/24")]),), named: ANYTHING}
    world = cluster(policy("shop/half", directions=[direction], **restricting))
    assert reaches(world, "shop/web", "bank/teller")
    assert reaches(world, "bank/teller", "shop/web")
    world = cluster(
        policy("shop/half", directions=[direction], **{named: NOTHING, other: ANYTHING})
    )
    there, back = ("bank/teller", "shop/web"), ("shop/web", "bank/teller")
    closed, open_ = (there, back) if named == "ingress" else (back, there)
    assert not reaches(world, *closed)
    assert reaches(world, *open_)


def test_rules_of_a_direction_left_out_do_not_open_what_another_policy_closed():
    world = cluster(
        policy("shop/closed", egress=NOTHING),
        policy("shop/half", ingress=NOTHING, egress=ANYTHING, directions=[Direction.INGRESS]),
    )
    assert not reaches(world, "shop/web", "outside")
    assert reaches(world, "bank/teller", "outside")


def test_policies_on_one_pod_add_up():
    world = cluster(
        policy("shop/a", "app=db", ingress=[rule([peer("app=web")])]),
        policy("shop/b", "", ingress=[rule([peer("app=cache")])]),
    )
    assert reaches(world, "shop/web", "shop/db")
    assert reaches(world, "shop/cache", "shop/db")
    assert not reaches(world, "bank/teller", "shop/db")
    assert not reaches(world, "shop/web", "shop/cache")


def test_a_policy_that_allows_everything_outweighs_one_that_allows_nothing():
    closed = policy("shop/closed", ingress=NOTHING)
    assert not reaches(cluster(closed), "outside", "shop/web")
    world = cluster(closed, policy("shop/open", "app=web", ingress=ANYTHING))
    assert reaches(world, "outside", "shop/web")
    assert not reaches(world, "outside", "shop/db")


def test_a_connection_needs_both_the_senders_and_the_receivers_consent():
    sending = policy("shop/sending", "app=web", egress=[rule([peer(None, "team=b")])])
    receiving = policy("bank/receiving", ingress=[rule([peer(None, "team=a")])])
    assert reaches(cluster(sending, receiving), "shop/web", "bank/teller")
    assert not reaches(cluster(sending, receiving), "shop/web", "shop/db")
    assert not reaches(cluster(sending, receiving), "outside", "bank/teller")
    refused = cluster(sending, policy("bank/receiving", ingress=NOTHING))
    assert not reaches(refused, "shop/web", "bank/teller")
    unsent = cluster(policy("shop/sending", "app=web", egress=NOTHING), receiving)
    assert not reaches(unsent, "shop/web", "bank/teller")


def test_a_policy_in_a_namespace_that_is_not_known_isolates_its_pods_all_the_same():
    world = World.of(
        NAMESPACES[1:], PODS, NODES, [policy("shop/closed", ingress=[rule([peer("app=web")])])]
    )
    assert not reaches(world, "bank/teller", "shop/db")
    assert reaches(world, "shop/web", "shop/db")


def test_the_example_of_the_documentation():
    pods = [
        pod("default/db", "role=db", node=1, host=7),
        pod("default/front", "role=frontend", node=2, host=3),
        pod("default/other", "role=other", node=2, host=4),
        pod("project/any", "", node=2, host=5),
        pod("stranger/front", "role=frontend", node=2, host=6),
    ]
    example = policy(
        "default/test-network-policy",
        "role=db",
        ingress=[
            rule(
                [
                    block("172.17.0.0/16", "172.17.1.0/24"),
                    peer(None, "project=myproject"),
                    peer("role=frontend"),
                ],
                [port(6379)],
            )
        ],
        egress=[rule([block("10.0.0.0/24")], [port(5978)])],
    )
    spaces = [namespace("default"), namespace("project", "project=myproject"), namespace("x")]
    world = World.of(spaces, pods, NODES, [example])
    for source in ("default/front", "project/any"):
        assert reaches(world, source, "default/db", 6379)
        assert not reaches(world, source, "default/db", 6380)
        assert not reaches(world, source, "default/db", 6379, UDP)
    for source in ("default/other", "stranger/front"):
        assert not reaches(world, source, "default/db", 6379)
    for source, allowed in (
        ("172.17.0.0", True),
        ("172.17.0.255", True),
        ("172.17.1.0", False),
        ("172.17.1.255", False),
        ("172.17.2.0", True),
        ("172.17.255.255", True),
        ("172.18.255.255", False),
    ):
        assert reaches(world, source, "default/db", 6379, families=(4,)) is allowed
    assert reaches(world, "default/db", "10.0.0.7", 5978, families=(4,))
    assert not reaches(world, "default/db", "10.0.0.7", 5977, families=(4,))
    assert not reaches(world, "default/db", "10.0.1.7", 5978, families=(4,))


# --- nodes, hostNetwork pods, and pods that are not there ---

ALONE = policy("shop/alone", ingress=NOTHING, egress=NOTHING)


def test_a_pod_and_its_own_node_reach_each_other_by_all_of_the_nodes_addresses():
    world = cluster(ALONE)
    own, others = (
        (
            (f"10.244.{n}.1", f"10.244.{n}.2", f"172.18.0.{n}"),
            (f"fd00:10:244:{n}::1", f"fd00:10:244:{n}::2", f"fd00:172:18::{n}"),
        )
        for n in (1, 2)
    )
    for family, near, far in zip((4, 6), own, others, strict=True):
        for address in near:
            assert reaches(world, address, "shop/web", families=(family,))
            assert reaches(world, "shop/web", address, families=(family,))
            assert reaches(world, address, "shop/web", protocol=ICMP, families=(family,))
        for address in far:
            assert not reaches(world, address, "shop/web", families=(family,))
            assert not reaches(world, "shop/web", address, families=(family,))


def test_a_pod_whose_node_is_not_known_has_no_node_of_its_own():
    world = World.of(NAMESPACES, PODS, NODES[1:], [ALONE])
    assert not reaches(world, "10.244.1.1", "shop/web", families=(4,))
    assert reaches(world, "10.244.2.1", "shop/db", families=(4,))


def test_a_pod_always_reaches_itself_and_not_the_others_of_its_policy():
    world = cluster(ALONE)
    assert reaches(world, "shop/web", "shop/web")
    assert reaches(world, "shop/web", "shop/web", protocol=ICMP)
    assert not reaches(world, "shop/web", "shop/cache")


def test_a_host_network_pod_is_never_isolated():
    host = pod("shop/agent", "app=web", node=1, host_network=True)
    world = cluster(ALONE, pods=[host, DB, TELLER])
    assert reaches(world, "shop/agent", "bank/teller")
    assert reaches(world, "bank/teller", "shop/agent")
    assert not reaches(world, "shop/db", "bank/teller")
    assert pods_selected(world, ALONE) == (DB.ref,)
    assert isolating(world, host.ref, Direction.INGRESS) == ()


def test_a_host_network_pod_is_no_peer_by_its_labels_but_by_its_nodes_address():
    host = pod("shop/agent", "app=web", node=1, host_network=True)
    by_labels = policy("shop/db", "app=db", ingress=[rule([peer("app=web"), peer("", "")])])
    assert not reaches(cluster(by_labels, pods=[host, DB, WEB]), "shop/agent", "shop/db")
    assert reaches(cluster(by_labels, pods=[host, DB, WEB]), "shop/web", "shop/db")
    blocks = [block("172.18.0.1/32"), block("fd00:172:18::1/128")]
    by_address = policy("shop/db", "app=db", ingress=[rule(blocks)])
    assert reaches(cluster(by_address, pods=[host, DB, WEB]), "shop/agent", "shop/db")
    assert not reaches(cluster(by_address, pods=[host, DB, WEB]), "shop/web", "shop/db")


def test_a_host_network_pod_on_a_pods_own_node_is_that_node():
    here = pod("bank/here", node=1, host_network=True)
    there = pod("bank/there", node=2, host_network=True)
    world = cluster(ALONE, pods=[WEB, here, there])
    assert reaches(world, "bank/here", "shop/web")
    assert not reaches(world, "bank/there", "shop/web")


@pytest.mark.parametrize("phase", [Phase.SUCCEEDED, Phase.FAILED])
def test_a_pod_that_has_ended_is_neither_isolated_nor_a_peer(phase):
    ended = pod("shop/job", "app=web", node=2, host=9, phase=phase)
    running = msgspec.structs.replace(ended, phase=Phase.RUNNING)
    rules = [rule([peer("app=web")])]
    policies = [policy("shop/db", "app=db", ingress=rules), policy("shop/q", "app=web", egress=[])]
    before = cluster(policies[0], pods=[DB, running])
    after = cluster(policies[0], pods=[DB, ended])
    assert reaches(before, "10.244.2.9", "shop/db", families=(4,))
    assert not reaches(after, "10.244.2.9", "shop/db", families=(4,))
    assert not reaches(cluster(policies[1], pods=[running]), "10.244.2.9", "outside", families=(4,))
    assert reaches(cluster(policies[1], pods=[ended]), "10.244.2.9", "outside", families=(4,))
    assert pods_selected(after, policies[1]) == ()
    assert addresses(after, ended.ref, 4) == ()


@pytest.mark.parametrize("phase", [Phase.PENDING, Phase.RUNNING, Phase.UNKNOWN])
def test_a_pod_that_may_still_run_is_isolated(phase):
    world = cluster(ALONE, pods=[msgspec.structs.replace(WEB, phase=phase), TELLER])
    assert not reaches(world, "shop/web", "bank/teller")
    assert reaches(world, "bank/teller", "outside")


def test_an_address_that_an_ended_pod_left_belongs_to_the_pod_that_has_it_now():
    ended = pod("shop/job", "app=web", node=2, host=9, phase=Phase.SUCCEEDED)
    heir = pod("bank/heir", "app=db", node=2, host=9)
    world = cluster(policy("shop/db", "app=db", ingress=[rule([peer("app=web")])]), pods=[DB, heir])
    with_both = cluster(*world.policies.values(), pods=[DB, heir, ended])
    assert not reaches(with_both, "bank/heir", "shop/db")
    assert reaches(with_both, "shop/db", "bank/heir")


def test_a_pod_without_an_address_is_selected_and_takes_part_in_no_traffic():
    coming = pod("shop/coming", "app=web", host=None)
    world = cluster(ALONE, pods=[coming, WEB])
    assert pods_selected(world, ALONE) == (coming.ref, WEB.ref)
    assert addresses(world, coming.ref, 4) == addresses(world, coming.ref, 6) == ()
    assert addresses(world, WEB.ref, 4) == WEB.addresses[:1]


def test_an_address_that_two_pods_claim_is_allowed_what_both_are_allowed():
    twin = pod("shop/twin", "app=twin", node=1, host=6)
    pods = [WEB, twin, DB, TELLER]
    to_web = policy("shop/in", "app=web", ingress=[rule([peer(None, "team=b")])])
    to_twin = policy("shop/in-twin", "app=twin", ingress=[rule([peer("app=db")])])
    to_both = policy("shop/in-both", "app in web twin", ingress=[rule([peer("app=db")])])
    assert reaches(cluster(to_web, pods=pods), "bank/teller", "shop/web")
    assert not reaches(cluster(to_web, pods=pods), "shop/db", "shop/web")
    assert not reaches(cluster(to_web, to_twin, pods=pods), "bank/teller", "shop/web")
    assert not reaches(cluster(to_web, to_twin, pods=pods), "shop/db", "shop/web")
    assert reaches(cluster(to_web, to_both, pods=pods), "shop/db", "shop/web")


def test_an_address_that_two_pods_claim_is_a_peer_only_where_both_are():
    twin = pod("shop/twin", "app=twin", node=1, host=6)
    pods = [WEB, twin, DB]
    one = policy("shop/db", "app=db", ingress=[rule([peer("app=web")])])
    both = policy("shop/db", "app=db", ingress=[rule([peer("app=web")]), rule([peer("app=twin")])])
    assert not reaches(cluster(one, pods=pods), "shop/web", "shop/db")
    assert reaches(cluster(one, pods=[WEB, DB]), "shop/web", "shop/db")
    assert reaches(cluster(both, pods=pods), "shop/web", "shop/db")


# --- what a verdict says ---


def test_a_verdict_names_the_rules_that_allow_and_the_policies_that_isolate():
    world = cluster(
        policy("shop/b", "app=db", ingress=[rule([peer("app=cache")]), rule([peer("app=web")])]),
        policy("shop/a", "", ingress=[rule([peer("app=web")], [port(80)])]),
        policy("shop/c", "app=web", egress=[rule()]),
        policy("bank/d", "", ingress=NOTHING),
    )
    found = verdict(world, "shop/web", "shop/db")
    a, b, c = (PolicyRef("shop", name) for name in "abc")
    assert found.allowed
    assert found.egress.reason is found.ingress.reason is Reason.RULE
    assert found.egress.isolating == (c,)
    assert found.egress.rules == (RuleRef(c, Direction.EGRESS, 1),)
    assert found.ingress.isolating == (a, b)
    assert found.ingress.rules == (
        RuleRef(a, Direction.INGRESS, 1),
        RuleRef(b, Direction.INGRESS, 2),
    )
    denied = verdict(world, "bank/teller", "shop/db")
    assert not denied.allowed
    assert denied.egress.reason is Reason.NOT_ISOLATED
    assert denied.ingress.reason is Reason.NO_RULE
    assert denied.ingress.isolating == (a, b)
    assert denied.ingress.rules == ()


def test_a_verdict_says_why_policies_did_not_matter():
    world = cluster(ALONE)
    itself = verdict(world, "shop/web", "shop/web")
    assert itself.egress.reason is itself.ingress.reason is Reason.ITSELF
    assert itself.ingress.isolating == (ALONE.ref,)
    own = verdict(world, "node/node-1", "shop/web")
    assert (own.egress.reason, own.ingress.reason) == (Reason.NO_POD, Reason.OWN_NODE)
    free = verdict(world, "bank/teller", "outside")
    assert (free.egress.reason, free.ingress.reason) == (Reason.NOT_ISOLATED, Reason.NO_POD)


def test_isolating_names_the_policies_of_one_direction_in_order():
    world = cluster(
        policy("shop/z", "app=web", ingress=NOTHING),
        policy("shop/y", "", ingress=NOTHING, egress=NOTHING),
        policy("shop/x", "app=db", ingress=NOTHING),
    )
    y, z = PolicyRef("shop", "y"), PolicyRef("shop", "z")
    assert isolating(world, WEB.ref, Direction.INGRESS) == (y, z)
    assert isolating(world, WEB.ref, Direction.EGRESS) == (y,)
    assert isolating(world, PodRef("shop", "nobody"), Direction.EGRESS) == ()
    assert pods_selected(world, world.policies[z]) == (WEB.ref,)
    assert pods_selected(world, world.policies[y]) == (CACHE.ref, DB.ref, WEB.ref)


def test_the_addresses_of_ends():
    host = pod("shop/agent", node=1, host_network=True)
    world = cluster(pods=[WEB, host])
    texts = {
        (name, family): tuple(map(str, addresses(world, end(name, family), family)))
        for name in ("shop/web", "shop/agent", "node/node-1", "node/none", "shop/none", "outside")
        for family in (4, 6)
    }
    assert texts == {
        ("shop/web", 4): ("10.244.1.6",),
        ("shop/web", 6): ("fd00:10:244:1::6",),
        ("shop/agent", 4): ("172.18.0.1",),
        ("shop/agent", 6): ("fd00:172:18::1",),
        ("node/node-1", 4): ("10.244.1.1", "10.244.1.2", "172.18.0.1"),
        ("node/node-1", 6): ("fd00:10:244:1::1", "fd00:10:244:1::2", "fd00:172:18::1"),
        ("node/none", 4): (),
        ("node/none", 6): (),
        ("shop/none", 4): (),
        ("shop/none", 6): (),
        ("outside", 4): ("203.0.113.5",),
        ("outside", 6): ("2001:db8::5",),
    }
    assert addresses(world, end("203.0.113.5", 4), 6) == ()


def test_a_host_network_pod_has_its_nodes_addresses_whatever_its_status_says():
    host = pod("shop/agent", node=1, host_network=True)
    stale = msgspec.structs.replace(host, addresses=WEB.addresses)
    unreported = msgspec.structs.replace(host, addresses=())
    lost = msgspec.structs.replace(host, node="node-9")
    for candidate in (stale, unreported):
        assert addresses(cluster(pods=[candidate]), host.ref, 4) == NODES[0].addresses[:1]
    assert addresses(cluster(pods=[lost]), host.ref, 4) == ()


# --- what holds for every cluster ---


def deny(policy: NetworkPolicy) -> NetworkPolicy:
    return msgspec.structs.replace(policy, ingress=(), egress=())


@given(clusters().flatmap(lambda world: traffics(world).map(lambda t: (world, t))))
def test_without_rules_less_is_allowed_and_without_policies_everything(case):
    world, traffic = case
    closed = World.of(
        world.namespaces.values(),
        world.pods.values(),
        world.nodes.values(),
        map(deny, world.policies.values()),
    )
    opened = msgspec.structs.replace(closed, policies={})
    assert evaluate(opened, traffic).allowed
    found, without = evaluate(world, traffic), evaluate(closed, traffic)
    assert found.allowed or not without.allowed
    for decision in (found.egress, found.ingress):
        assert bool(decision.rules) <= bool(decision.isolating)
        assert decision.allowed is (decision.reason is not Reason.NO_RULE)
