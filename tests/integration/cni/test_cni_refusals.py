"""What the switch has no endpoint for, the node refuses at once, whatever else filters packets."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from ipaddress import ip_address

import frames
import pytest
from frames import Ends
from host_side import (
    CLIENT,
    CLUSTER_IP,
    EXTERNAL_IP,
    GATEWAY,
    LISTENING,
    NODE_PORT,
    OWN,
    POD,
    PORT,
    PROTOCOLS,
    SERVICE,
    HostSide,
    beside_kube_proxy,
    connected,
    ends_of,
    host_side,
    mac_of,
    packet,
    says_unreachable,
    udp_program,
    unreachable,
)
from wire import raw_socket

from ovsnet.names import REFUSER_MAC, ROUTER_MAC

VERSIONS = (4, 6)
OTHER_POD = {4: "10.77.5.5", 6: "fd00:77:0:5::5"}
CLOSED = """
table inet closed {
  chain input { type filter hook input priority filter - 20; policy drop; }
  chain forward { type filter hook forward priority filter - 20; policy drop; }
}
"""


@contextlib.contextmanager
def beside_a_firewall(side: HostSide) -> Iterator[None]:
    """One that drops all that comes to the node or through it."""
    file = side.node.directory / "closed.nft"
    file.write_text(CLOSED)
    side.node.run("nft", "-f", str(file))
    try:
        yield
    finally:
        side.node.run("nft", "delete", "table", "inet", "closed")


@pytest.fixture(scope="module")
def plain() -> Iterator[HostSide]:
    with host_side() as side:
        # Linux tells one address of few packets a second; the tests send many.
        for setting in ("net.ipv4.icmp_ratelimit", "net.ipv6.icmp.ratelimit"):
            side.node.run("sysctl", "-qw", f"{setting}=0")
        yield side


@pytest.fixture(params=["alone", "beside kube-proxy", "beside a firewall"])
def side(plain: HostSide, request: pytest.FixtureRequest) -> Iterator[HostSide]:
    around = {
        "alone": lambda _: contextlib.nullcontext(),
        "beside kube-proxy": beside_kube_proxy,
        "beside a firewall": beside_a_firewall,
    }[request.param]
    with around(plain):
        plain.forget()
        yield plain


def new_ends(protocol: str, source: str, target: str, port: int) -> Ends:
    """Of a connection that the node has not heard of."""
    return ends_of(protocol, source, 10000 + secrets.randbelow(9000), target, port)


def expect_refusal(side: HostSide, refused: Ends) -> None:
    """TCP is reset, as if the service had done it; all else is told by ICMP."""
    if refused.protocol == frames.TCP:
        seen = side.wait_for_ends(refused.reversed)
        assert seen.flags & frames.RST
    else:
        seen = side.wait(lambda s: says_unreachable(s, refused), f"ICMP about {refused}")
    assert seen.frame[:6] == frames.mac(ROUTER_MAC)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("source", [POD, SERVICE], ids=["pod", "service address"])
@pytest.mark.parametrize(
    ("target", "port"),
    [(CLUSTER_IP, 80), (EXTERNAL_IP, 80), (NODE_PORT, PORT), (OWN, PORT), (GATEWAY, PORT)],
    ids=["cluster IP", "external IP", "node port", "the node itself", "the gateway"],
)
def test_what_has_no_endpoint(
    side: HostSide, version: int, protocol: str, source: dict, target: dict, port: int
) -> None:
    refused = new_ends(protocol, source[version], target[version], port)
    side.hand_in(REFUSER_MAC, packet(refused))
    expect_refusal(side, refused)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("who", ["client", "here"])
def test_callers_beyond_hear_of_it(plain: HostSide, version: int, who: str) -> None:
    """What the node, or somebody by it, has sent is refused under the service address. The switch
    translates the node's words, and hands them back.
    """
    plain.forget()
    caller = getattr(plain, who)
    for target, port in ((OWN, PORT), (EXTERNAL_IP, 80)):
        with connected(caller, target[version], port) as sock:
            sock.send(b"?")
            arrived = plain.wait(
                lambda s, sock=sock: (
                    s.ends is not None and s.ends.source_port == sock.getsockname()[1]
                ),
                "the question",
            ).ends
            assert arrived is not None
            translated = arrived._replace(source=ip_address(SERVICE[version]))
            plain.hand_in(REFUSER_MAC, packet(translated, b"?"))
            expect_refusal(plain, translated)
            words = unreachable(GATEWAY[version], packet(arrived, b"?"))
            plain.hand_in(ROUTER_MAC, words)
            with pytest.raises(ConnectionRefusedError):
                sock.recv(1)


@pytest.mark.parametrize("version", VERSIONS)
def test_nothing_else_of_the_nodes_own_comes_back(plain: HostSide, version: int) -> None:
    with udp_program(plain, OWN[version]) as listening:
        for source in (OWN, GATEWAY):
            own = new_ends("udp", source[version], OWN[version], LISTENING)
            plain.hand_in(ROUTER_MAC, packet(own, b"forged"))
        other = new_ends("udp", POD[version], OWN[version], LISTENING)
        plain.hand_in(ROUTER_MAC, packet(other, b"honest"))
        assert listening.recv(100) == b"honest"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_reset_is_not_answered(side: HostSide, version: int) -> None:
    """RFC 9293, section 3.5.2; two nodes that refuse each other would never end."""
    reset = new_ends("tcp", POD[version], CLUSTER_IP[version], 80)
    after = new_ends("tcp", POD[version], CLUSTER_IP[version], 80)
    side.hand_in(REFUSER_MAC, packet(reset, flags=frames.RST))
    side.hand_in(REFUSER_MAC, packet(after))
    expect_refusal(side, after)
    assert reset.reversed not in side.sent()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("target", [CLUSTER_IP, EXTERNAL_IP], ids=["cluster IP", "external IP"])
def test_an_address_that_no_service_has(
    plain: HostSide, version: int, protocol: str, target: dict
) -> None:
    """It is routed back to where it came from, by which the switch would not take it."""
    plain.forget()
    refused = new_ends(protocol, POD[version], target[version], 80)
    plain.hand_in(ROUTER_MAC, packet(refused))
    expect_refusal(plain, refused)
    assert refused not in plain.sent()


@pytest.mark.parametrize("version", VERSIONS)
def test_what_else_comes_back_to_the_switch_passes(plain: HostSide, version: int) -> None:
    """A pod that calls a host port of another one takes this way."""
    plain.forget()
    asked = new_ends("udp", POD[version], OTHER_POD[version], 80)
    plain.hand_in(ROUTER_MAC, packet(asked))
    plain.wait_for_ends(asked)


@pytest.mark.parametrize("version", VERSIONS)
def test_nobody_but_the_switch_has_packets_refused(plain: HostSide, version: int) -> None:
    """The MAC alone does not make it: on the wire anybody may have it."""
    plain.forget()
    kind = frames.IPV4 if version == 4 else frames.IPV6
    sent = new_ends("udp", CLIENT[version], CLUSTER_IP[version], 80)
    with raw_socket(plain.client) as sock:
        sock.send(frames.ethernet(mac_of(plain.here), REFUSER_MAC, kind, packet(sent)))
    plain.wait_for_ends(sent)
