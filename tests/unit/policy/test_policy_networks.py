"""The parts that ipBlocks divide the address space into."""

from ipaddress import ip_address, ip_network

from hypothesis import given
from policy_objects import block, policy, rule
from policy_strategies import OUTSIDE, clusters

from ovsnet.policy.networks import EVERYTHING, Part, parts


def divided(*peers, taken=()):
    one = policy("shop/one", ingress=[rule([peer]) for peer in peers])
    other = policy("shop/one", egress=[rule([peer]) for peer in peers])
    found = parts([one], set(map(ip_address, taken)))
    assert parts([other], set(map(ip_address, taken))) == found
    return {str(part): str(address) for part, address in found.items()}


def test_without_blocks_each_family_is_one_part():
    assert divided() == {"0.0.0.0/0": "0.0.0.0", "::/0": "::"}


def test_a_network_is_without_those_right_below_it():
    blocks = (
        block("10.0.0.0/8", "10.1.0.0/16", "10.2.0.0/16"),
        block("10.1.2.0/24"),
        block("192.0.2.0/24"),
    )
    assert divided(*blocks) == {
        "0.0.0.0/0 without 10.0.0.0/8, 192.0.2.0/24": "0.0.0.0",
        "10.0.0.0/8 without 10.1.0.0/16, 10.2.0.0/16": "10.0.0.0",
        "10.1.0.0/16 without 10.1.2.0/24": "10.1.0.0",
        "10.1.2.0/24": "10.1.2.0",
        "10.2.0.0/16": "10.2.0.0",
        "192.0.2.0/24": "192.0.2.0",
        "::/0": "::",
    }


def test_the_address_of_a_part_is_not_one_of_a_smaller_network():
    blocks = (block("0.0.0.0/8"), block("2001:db8::/64", "2001:db8::/126", "2001:db8::4/127"))
    found = divided(*blocks, taken=["1.0.0.0", "1.0.0.1", "2001:db8::6"])
    assert found["0.0.0.0/0 without 0.0.0.0/8"] == "1.0.0.2"
    assert found["2001:db8::/64 without 2001:db8::/126, 2001:db8::4/127"] == "2001:db8::7"


def test_a_part_of_which_nothing_is_left_is_none():
    blocks = (
        block("10.0.0.0/30", "10.0.0.0/31", "10.0.0.2/31"),
        block("255.255.255.255/32"),
        block("192.0.2.0/31"),
    )
    found = divided(*blocks, taken=["192.0.2.0", "192.0.2.1", "255.255.255.255"])
    assert set(found) == {
        "0.0.0.0/0 without 10.0.0.0/30, 192.0.2.0/31, 255.255.255.255/32",
        *("10.0.0.0/31", "10.0.0.2/31", "::/0"),
    }


def holds(part: Part, address) -> bool:
    return address in part.network and not any(address in network for network in part.without)


@given(clusters())
def test_every_address_is_in_one_part_whose_address_all_blocks_treat_like_it(world):
    taken = {address for pod in world.pods.values() for address in pod.addresses}
    found = parts(world.policies.values(), taken)
    assert {part.network for part in found} >= {*EVERYTHING}
    blocks = {
        peer.ip_block
        for one in world.policies.values()
        for each in (*one.ingress, *one.egress)
        for peer in each.peers or ()
        if peer.ip_block is not None
    }
    networks = {n for one in blocks for n in (one.cidr, *one.exceptions)} | {ip_network("::/0")}
    tried = {*OUTSIDE, *(n.network_address for n in networks), *(n[-1] for n in networks)}
    for address in tried - taken:
        (part,) = (part for part in found if holds(part, address))
        assert holds(part, found[part])
        assert found[part] not in taken
        assert all((address in n) is (found[part] in n) for n in networks)
