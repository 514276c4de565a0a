"""Limits of bandwidth: what the runtime asks for, and what is made of it."""

from __future__ import annotations

import struct

import pytest

from ovsnet.cni.errors import CniError
from ovsnet.cni.shaping import Limit, Shaping, limit_sender, parse


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (None, Shaping()),
        ({}, Shaping()),
        ({"ingressRate": 0, "ingressBurst": 9}, Shaping()),
        ({"ingressRate": 10**7, "ingressBurst": 800}, Shaping(into=Limit(10**7, 800))),
        ({"egressRate": 10**7}, Shaping(out=Limit(10**7, 0))),
        ({"ingressRate": 1, "egressRate": 9}, Shaping(Limit(8, 0), Limit(9, 0))),
        ({"ingressRate": 16, "shapedSubnets": []}, Shaping(into=Limit(16, 0))),
        # What containerd 1.6 writes.
        (
            {"IngressRate": 8, "IngressBurst": 9, "EgressRate": 16, "EgressBurst": 17},
            Shaping(Limit(8, 9), Limit(16, 17)),
        ),
    ],
)
def test_what_is_asked_for(value: object, found: Shaping) -> None:
    assert parse(value) == found


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ([], "runtimeConfig.bandwidth is list"),
        ({"ingressRate": "10M"}, "runtimeConfig.bandwidth.ingressRate is '10M'"),
        ({"egressBurst": -1}, "runtimeConfig.bandwidth.egressBurst is -1"),
        ({"egressRate": True}, "runtimeConfig.bandwidth.egressRate is True"),
        ({"egressRate": 1.5}, "runtimeConfig.bandwidth.egressRate is 1.5"),
    ],
)
def test_what_makes_no_sense(value: object, named: str) -> None:
    with pytest.raises(CniError) as raised:
        parse(value)
    assert (raised.value.code, named in raised.value.message) == (7, True)


@pytest.mark.parametrize(
    ("limit", "burst"),
    [
        (Limit(80_000_000, 2**32), 1_000_000),
        (Limit(80_000_000, 0), 1_000_000),
        (Limit(80_000_000, 4_000_000), 500_000),
        (Limit(80_000_000, 8), 65536),
        (Limit(1000, 0), 65536),
    ],
)
def test_no_more_than_a_tenth_of_a_second_at_once(limit: Limit, burst: int) -> None:
    assert limit.burst_bytes == burst


def test_a_rate_that_does_not_fit_in_32_bits_has_an_attribute_of_its_own() -> None:
    fits, not_fits = (limit_sender(7, Limit(rate, 0)).body for rate in (8 * 10**9, 8 * 10**10))
    assert struct.pack("=HHQ", 12, 4, 10**10) in not_fits
    assert struct.pack("=HH", 12, 4) not in fits
    assert struct.pack("=I", 10**9) in fits
