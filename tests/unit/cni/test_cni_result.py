from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_cni_ranges import NODES

from ovsnet.cni import result
from ovsnet.cni.conf import VERSIONS
from ovsnet.cni.ranges import NodeRanges


@given(NODES, st.data(), st.sampled_from(VERSIONS))
def test_every_version_tells_the_same_addresses(ranges: NodeRanges, data, version: str):
    addresses = ranges.addresses(data.draw(st.integers(ranges.first, ranges.last)))
    made = result.success("port", "eth0", "/run/netns/x", 1450, addresses, {"domain": "d"})
    told = result.convert(made, version)
    assert told["cniVersion"] == version
    assert result.addresses_in(told) == addresses.text.split(",")
    assert [ip.get("version") for ip in told["ips"]] == (
        [str(a.version) for a in (addresses.ipv4, addresses.ipv6) if a]
        if version in {"0.3.1", "0.4.0"}
        else [None] * len(told["ips"])
    )
    # Each address belongs to the interface that has a sandbox.
    for ip in told["ips"]:
        assert "sandbox" in told["interfaces"][ip["interface"]]
    assert told["dns"] == {"domain": "d"}
    assert made["cniVersion"] == "1.1.0"


@pytest.mark.parametrize("value", [{}, {"ips": 1}, {"ips": [1]}, {"ips": [{}]}, {"ips": None}])
def test_results_of_others_that_have_another_form(value: dict):
    with pytest.raises(ValueError, match="ips"):
        result.addresses_in(value)
