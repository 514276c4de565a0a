from __future__ import annotations

import pytest

from ovsnet.sandbox.demo import probes

GOOD = """PING 10.0.0.1 (10.0.0.1) 56(84) bytes of data.
64 bytes from 10.0.0.1: icmp_seq=1 ttl=64 time=0.5 ms
64 bytes from 10.0.0.1: icmp_seq=2 ttl=64 time=0.5 ms

--- 10.0.0.1 ping statistics ---
2 packets transmitted, 2 received, 0% packet loss, time 101ms
rtt min/avg/max/mdev = 0.404/0.517/0.630/0.113 ms
"""
TOO_LONG = """PING 10.0.0.1 (10.0.0.1) 1423(1451) bytes of data.

--- 10.0.0.1 ping statistics ---
1 packets transmitted, 0 received, +1 errors, 100% packet loss, time 0ms
"""


def stream(answered: list[int], sent: int) -> str:
    lines = [f"64 bytes from 10.0.0.1: icmp_seq={n} ttl=64 time=0.5 ms" for n in answered]
    return "\n".join([*lines, f"{sent} packets transmitted, {len(answered)} received, 0% loss"])


def test_a_ping_that_was_answered() -> None:
    assert probes.parse_ping(GOOD) == probes.Ping(2, 2, 0.517)
    assert probes.parse_ping(GOOD).complete


def test_a_packet_that_is_too_long() -> None:
    found = probes.parse_ping(TOO_LONG, "ping: local error: message too long, mtu=1450\n")
    assert (found.sent, found.received, found.milliseconds) == (1, 0, None)
    assert not found.complete
    assert "too long" in found.message


def test_a_ping_that_could_not_start_is_not_complete() -> None:
    found = probes.parse_ping("", "ping: connect: Network is unreachable\n")
    assert not found.complete
    assert "unreachable" in found.message


@pytest.mark.parametrize(
    ("answered", "sent", "lost"),
    [
        ([1, 2, 3], 3, 0),
        ([1, 2, 3], 4, 0),  # the last was on its way when ping was stopped
        ([1, 2, 3], 5, 1),
        ([1, 3], 3, 1),
        ([2, 3], 3, 1),
        ([], 1, 0),
        ([], 5, 4),
        ([1, 2], 50, 47),
    ],
)
def test_losses_of_a_stream(answered: list[int], sent: int, lost: int) -> None:
    assert probes.lost(stream(answered, sent)) == (sent, lost)


def test_a_stream_that_said_nothing() -> None:
    assert probes.lost("ping: unknown host") == (0, 0)


def test_the_payload_of_a_full_packet() -> None:
    assert probes.payload_for(1500, "10.0.0.1") == 1472
    assert probes.payload_for(1500, "fd00::1") == 1452
