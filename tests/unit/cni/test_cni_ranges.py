from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovsnet import names
from ovsnet.cni.ranges import NodeRanges, collapsed

RANGES4 = st.builds(
    lambda base, length: IPv4Network((base >> (32 - length) << (32 - length), length)),
    st.integers(0x01000000, 0xDFFFFFFF),
    st.integers(8, 29),
)
RANGES6 = st.builds(
    lambda base, length: IPv6Network((base >> (128 - length) << (128 - length), length)),
    st.integers(0x2000 << 112, (0x4000 << 112) - 1),
    st.integers(48, 125),
)
NODES = st.one_of(
    st.builds(NodeRanges, RANGES4),
    st.builds(lambda six: NodeRanges(None, six), RANGES6),
    st.builds(NodeRanges, RANGES4, RANGES6),
)


@given(NODES, st.data())
def test_an_offset_and_its_addresses_tell_each_other(ranges: NodeRanges, data: st.DataObject):
    offset = data.draw(st.integers(ranges.first, ranges.last))
    addresses = ranges.addresses(offset)
    assert ranges.offset_of(addresses.text.split(",")) == offset
    if addresses.ipv4 and addresses.ipv6:
        assert addresses.ipv6 == names.ipv6_for(addresses.ipv4, ranges.ipv4, ranges.ipv6)
    known = addresses.ipv4 if addresses.ipv4 else offset
    assert addresses.host_mac == names.host_mac(known)
    assert int(names.address_of_host_mac(addresses.host_mac)) == int(known)


@given(NODES)
def test_the_bounds_leave_out_gateway_service_address_and_broadcast(ranges: NodeRanges):
    for offset in (0, names.GATEWAY_OFFSET, names.SERVICE_OFFSET, ranges.last + 1):
        texts = ranges.addresses(offset).text.split(",")
        with pytest.raises(ValueError, match="reserved"):
            ranges.offset_of(texts)
    if ranges.ipv4:
        assert ranges.addresses(ranges.last).ipv4 < ranges.ipv4.broadcast_address


@pytest.mark.parametrize(
    ("addresses", "reason"),
    [
        (["10.0.0.5"], "one address each"),
        (["fd00::5"], "one address each"),
        (["10.0.0.5", "fd00::6"], "offsets differ"),
        (["10.0.1.5", "fd00::5"], "10.0.1.5 is not in"),
        (["10.0.0.5", "10.0.0.6"], "second IPv4"),
        (["10.0.0.1", "fd00::1"], r"offset 1 is reserved \(the gateway's\); pods have 3 to 254"),
        (["10.0.0.2", "fd00::2"], r"offset 2 is reserved \(the node's service address\)"),
        (["10.0.0.255", "fd00::ff"], "offset 255 is reserved; pods"),
        (["ten"], "ten"),
        ([], "one address each"),
    ],
)
def test_addresses_that_no_pod_may_have(addresses: list[str], reason: str):
    ranges = NodeRanges.of(["10.0.0.0/24", "fd00::/64"])
    with pytest.raises(ValueError, match=reason):
        ranges.offset_of(addresses)


@pytest.mark.parametrize(
    ("cidrs", "reason"),
    [
        (["10.0.0.0/24", "10.0.1.0/24"], "two podCIDRs of IPv4"),
        ([], "at least one"),
        (["10.0.0.1/24"], "host bits"),
        (["10.0.0.0/31"], "too small"),
        (["10.0.0.0/30"], "too small"),
        (["10.0.0.0/24", "fd00::/126"], "too small"),
    ],
)
def test_ranges_that_no_node_may_have(cidrs: list[str], reason: str):
    with pytest.raises(ValueError, match=reason):
        NodeRanges.of(cidrs)


def test_the_smallest_range_has_room_for_pods():
    ranges = NodeRanges.of(["10.0.0.0/29"])
    assert [ranges.addresses(o).text for o in range(ranges.first, ranges.last + 1)] == [
        "10.0.0.3",
        "10.0.0.4",
        "10.0.0.5",
        "10.0.0.6",
    ]
    assert (ranges.gateway.text, ranges.node_port.text) == ("10.0.0.1", "10.0.0.7")


def test_what_overlaps_or_repeats_is_one():
    texts = ["fd00::/64", "10.0.0.0/16", "10.0.3.0/24", "10.0.0.0/16", "10.9.0.0/16", "fd00::/48"]
    found = collapsed(ip_network(text) for text in texts)
    assert [str(n) for n in found] == ["10.0.0.0/16", "10.9.0.0/16", "fd00::/48"]
