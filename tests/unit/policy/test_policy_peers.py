"""Peers, clause by clause of the API's documentation: whom `from` and `to` mean, and whom not."""

import pytest
from policy_objects import block, namespace, node, peer, pod, policy, port, rule
from policy_reach import ICMP, OUTSIDE, reaches

from ovsnet.model import Namespace, PolicyPeer
from ovsnet.policy.world import World

NODES = (node(1), node(2))
NAMESPACES = (namespace("shop", "team=a"), namespace("bank", "team=b"), namespace("lab", "team=b"))
PODS = (
    pod("shop/hub", "app=hub", node=1, host=8),
    pod("shop/web", "app=web", node=2, host=3),
    pod("shop/db", "app=db", node=2, host=4),
    pod("bank/web", "app=web", node=2, host=5),
    pod("bank/db", "app=db", node=2, host=6),
    pod("lab/web", "app=web", node=2, host=7),
)
OTHERS = ("shop/web", "shop/db", "bank/web", "bank/db", "lab/web", "node/node-2", "outside")


def met(*rules, direction="ingress", protocol="TCP", namespaces=NAMESPACES):
    """Everybody whom the hub's only policy, of these rules, lets it talk to in a direction."""
    one = policy("shop/hub", "app=hub", **{direction: rules})
    world = World.of(namespaces, PODS, NODES, [one])
    pairs = {other: (other, "shop/hub")[:: 1 if direction == "ingress" else -1] for other in OTHERS}
    return {other for other, pair in pairs.items() if reaches(world, *pair, protocol=protocol)}


both_directions = pytest.mark.parametrize("direction", ["ingress", "egress"])


@both_directions
@pytest.mark.parametrize(
    ("peers", "expected"),
    [
        ([peer("app=web")], {"shop/web"}),
        ([peer("app in web db")], {"shop/web", "shop/db"}),
        ([peer("app notin web")], {"shop/db"}),
        ([peer("lacks app")], set()),
        ([peer("")], {"shop/web", "shop/db"}),
    ],
)
def test_a_pod_selector_means_pods_of_the_policys_own_namespace(peers, expected, direction):
    assert met(rule(peers), direction=direction) == expected


@both_directions
@pytest.mark.parametrize(
    ("peers", "expected"),
    [
        ([peer(None, "team=a")], {"shop/web", "shop/db"}),
        ([peer(None, "team=b")], {"bank/web", "bank/db", "lab/web"}),
        ([peer(None, "team=c")], set()),
        ([peer(None, "kubernetes.io/metadata.name=bank")], {"bank/web", "bank/db"}),
        ([peer(None, "kubernetes.io/metadata.name notin bank shop")], {"lab/web"}),
        ([peer(None, "")], {"shop/web", "shop/db", "bank/web", "bank/db", "lab/web"}),
    ],
)
def test_a_namespace_selector_means_all_pods_of_the_namespaces(peers, expected, direction):
    assert met(rule(peers), direction=direction) == expected


@both_directions
@pytest.mark.parametrize(
    ("peers", "expected"),
    [
        ([peer("app=web", "team=b")], {"bank/web", "lab/web"}),
        ([peer("", "team=a")], {"shop/web", "shop/db"}),
        ([peer("app=db", "")], {"shop/db", "bank/db"}),
        ([peer("", "")], {"shop/web", "shop/db", "bank/web", "bank/db", "lab/web"}),
    ],
)
def test_both_selectors_in_one_peer_mean_pods_that_fit_in_namespaces_that_fit(
    peers, expected, direction
):
    assert met(rule(peers), direction=direction) == expected


def test_the_same_selectors_in_two_peers_mean_either():
    assert met(rule([peer(None, "team=b"), peer("app=web")])) == {
        *("bank/web", "bank/db", "lab/web"),
        "shop/web",
    }


@both_directions
def test_a_rule_without_peers_means_everybody(direction):
    assert met(rule(), direction=direction) == set(OTHERS)
    assert met(rule(None, [port(80)]), direction=direction) == set(OTHERS)
    assert met(rule(None, [port(81)]), direction=direction) == set()


@both_directions
def test_a_rule_whose_peers_were_not_understood_means_nobody(direction):
    assert met(rule([]), direction=direction) == set()
    assert met(rule([]), rule([peer("app=db")]), direction=direction) == {"shop/db"}


def test_peers_allow_every_protocol_where_no_port_is_named():
    assert met(rule([peer("app=web")]), protocol=ICMP) == {"shop/web"}


def test_a_peer_that_says_nothing_means_nobody():
    assert met(rule([PolicyPeer()])) == set()
    assert met(rule([PolicyPeer(), peer("app=web")])) == {"shop/web"}


def test_a_peer_that_mixes_a_block_with_selectors_means_nobody():
    everything = block("0.0.0.0/0").ip_block
    for mixed in (
        PolicyPeer(ip_block=everything, pods=peer("").pods),
        PolicyPeer(ip_block=everything, namespaces=peer("").pods),
    ):
        assert met(rule([mixed])) == set()
    everything_at_all = [block("0.0.0.0/0"), block("::/0")]
    assert met(rule(everything_at_all)) == set(OTHERS)


def test_no_namespace_selector_means_pods_of_a_namespace_that_is_not_known():
    known = NAMESPACES[1:]
    for selector in ("", "lacks team", "team notin b"):
        assert met(rule([peer(None, selector)]), namespaces=known) <= {
            *("bank/web", "bank/db", "lab/web")
        }
        assert met(rule([peer("", selector)]), namespaces=known) <= {
            *("bank/web", "bank/db", "lab/web")
        }
    assert met(rule([peer(None, "")]), namespaces=known) == {"bank/web", "bank/db", "lab/web"}


def test_a_pod_selector_alone_needs_to_know_nothing_about_the_namespace():
    assert met(rule([peer("app=web")]), namespaces=()) == {"shop/web"}


def test_the_label_with_a_namespaces_name_is_not_invented():
    unlabelled = [Namespace(n.name) for n in NAMESPACES]
    by_name = rule([peer(None, "kubernetes.io/metadata.name=bank")])
    assert met(by_name) == {"bank/web", "bank/db"}
    assert met(by_name, namespaces=unlabelled) == set()


# --- ipBlock ---


@both_directions
def test_a_block_means_its_addresses_of_its_own_family_alone(direction):
    one = policy("shop/hub", "app=hub", **{direction: [rule([block("203.0.113.0/24")])]})
    world = World.of(NAMESPACES, PODS, NODES, [one])

    def talk(address, family):
        pair = (address, "shop/hub")[:: 1 if direction == "ingress" else -1]
        return reaches(world, *pair, families=(family,))

    for address in ("203.0.113.0", "203.0.113.5", "203.0.113.255"):
        assert talk(address, 4)
    for address in ("203.0.112.255", "203.0.114.0"):
        assert not talk(address, 4)
    for address in ("2001:db8::5", "::ffff:203.0.113.5", "::203.0.113.5"):
        assert not talk(address, 6)


@both_directions
def test_a_block_of_everything_means_everything_of_its_family(direction):
    for cidr, family, other in (("0.0.0.0/0", 4, 6), ("::/0", 6, 4)):
        one = policy("shop/hub", "app=hub", **{direction: [rule([block(cidr)])]})
        world = World.of(NAMESPACES, PODS, NODES, [one])
        for end in ("shop/web", "bank/db", "node/node-2", "outside"):
            pair = (end, "shop/hub")[:: 1 if direction == "ingress" else -1]
            assert reaches(world, *pair, families=(family,))
            assert not reaches(world, *pair, families=(other,))


@pytest.mark.parametrize(
    ("cidr", "excepted", "inside", "outside"),
    [
        ("10.0.0.0/8", ["10.1.0.0/16"], ["10.0.255.255", "10.2.0.0"], ["10.1.0.0", "10.1.255.255"]),
        (
            "10.0.0.0/8",
            ["10.1.0.0/16", "10.3.0.0/16", "10.1.2.0/24"],
            ["10.2.0.1"],
            ["10.1.2.3", "10.3.0.1"],
        ),
        ("10.0.0.0/24", ["10.0.0.7/32"], ["10.0.0.6", "10.0.0.8"], ["10.0.0.7"]),
        (
            "2001:db8::/32",
            ["2001:db8:1::/48"],
            ["2001:db8::1", "2001:db8:2::"],
            ["2001:db8:1::", "2001:db8:1:ffff::1"],
        ),
    ],
)
@both_directions
def test_a_block_does_not_mean_what_it_excepts(cidr, excepted, inside, outside, direction):
    one = policy("shop/hub", "app=hub", **{direction: [rule([block(cidr, *excepted)])]})
    world = World.of(NAMESPACES, PODS, NODES, [one])
    for addresses, allowed in ((inside, True), (outside, False)):
        for address in addresses:
            pair = (address, "shop/hub")[:: 1 if direction == "ingress" else -1]
            family = 6 if ":" in address else 4
            assert reaches(world, *pair, families=(family,)) is allowed, address


def test_what_one_block_excepts_another_peer_may_mean_all_the_same():
    for family, cidr in OUTSIDE.items():
        everything = "0.0.0.0/0" if family == 4 else "::/0"
        excepting = rule([block(everything, cidr)])
        naming = rule([block(cidr)])
        for rules, allowed in (((excepting,), False), ((excepting, naming), True)):
            one = policy("shop/hub", "app=hub", ingress=rules)
            world = World.of(NAMESPACES, PODS, NODES, [one])
            assert reaches(world, "outside", "shop/hub", families=(family,)) is allowed


@both_directions
def test_a_block_means_pods_and_nodes_by_their_addresses(direction):
    blocks = [block("10.244.2.0/24", "10.244.2.4/30"), block("fd00:10:244:2::/64")]
    blocks[1] = block("fd00:10:244:2::/64", "fd00:10:244:2::4/126")
    assert met(rule(blocks), direction=direction) == {"shop/web", "node/node-2"}


def test_a_pod_that_a_block_excepts_may_be_meant_by_its_labels():
    blocks = [block("10.244.0.0/16", "10.244.2.4/32"), block("fd00:10::/32", "fd00:10:244:2::4")]
    everybody_but = set(OTHERS) - {"outside", "shop/db"}
    assert met(rule(blocks)) == everybody_but
    assert met(rule([*blocks, peer("app=db")])) == everybody_but | {"shop/db"}
