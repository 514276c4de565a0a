from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovsnet import names
from ovsnet.cni.ranges import NodeRanges

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
def test_the_bounds_leave_out_gateway_and_broadcast(ranges: NodeRanges):
    for offset in (0, names.GATEWAY_OFFSET, ranges.last + 1):
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
        (["10.0.0.1", "fd00::1"], "reserved"),
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
    ],
)
def test_ranges_that_no_node_may_have(cidrs: list[str], reason: str):
    with pytest.raises(ValueError, match=reason):
        NodeRanges.of(cidrs)
