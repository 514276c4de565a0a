"""The simulator's connection tracker against the datapath's. Each packet leaves with what
the tracker said of it in its Ethernet addresses.
"""

from __future__ import annotations

import random

import datapath
import pytest
from connection_agreement import INSIDE, OUTSIDE, TELL, connection_switch, place, run

from ovsnet.flows.simulator import echo as sim_echo
from ovsnet.flows.simulator import icmp as sim_icmp
from ovsnet.flows.simulator import tcp as sim_tcp
from ovsnet.flows.simulator import udp as sim_udp
from ovsnet.flows.simulator.packet import ACK, SYN

FLOWS = "".join(
    f"""
    table=0,{family} actions=ct(table=1,zone=ZONE,nat)
    table=1,priority=3,{family},ct_state=+inv+trk actions={TELL},output:5
    table=1,priority=2,{family},ct_state=+new+trk,in_port=3,{service} actions={TELL},ct(commit,table=2,zone=ZONE,nat(dst={backend}),exec(set_field:0x7->ct_mark))
    table=1,priority=1,{family},ct_state=+new+trk,in_port=3 actions={TELL},ct(commit,table=2,zone=ZONE,exec(set_field:0x5->ct_mark))
    table=1,priority=0,{family} actions={TELL},output:5
    table=2,{family} actions=output:5
    """  # noqa: E501
    for family, service, backend in (
        ("ip", "nw_dst=10.96.0.1", "10.0.0.2"),
        ("ipv6", "ipv6_dst=fd00:96::1", "fd00::2"),
    )
)
HOSTS = {4: ("10.0.0.1", "10.0.0.2", "10.96.0.1"), 6: ("fd00::1", "fd00::2", "fd00:96::1")}


@pytest.fixture(scope="module")
def real():
    """A switch and its wires."""
    with connection_switch("conns") as made:
        yield made


def flows_in(zone: int) -> str:
    """The flows, with a zone of their own."""
    return FLOWS.replace("ZONE", str(zone))


def conversation(draw: random.Random, family: int):
    """Packets of UDP and ping in both directions, in any order; some of them to the service."""
    client, server, service = HOSTS[family]
    sent = []
    for _ in range(12):
        port = draw.choice((1000, 1001))
        sent.append(
            draw.choice(
                (
                    place(sim_udp(client, server, port, 53), INSIDE),
                    place(sim_udp(server, client, 53, port), OUTSIDE),
                    place(sim_udp(client, service, port + 10, 53), INSIDE),
                    place(sim_udp(server, client, 53, port + 10), OUTSIDE),
                    place(sim_echo(client, server), INSIDE),
                    place(sim_echo(server, client, reply=True), OUTSIDE),
                )
            )
        )
    return [(one, (0, 0)) for one in sent]


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("seed", range(15))
def test_datagrams_in_any_order(real, family, seed):
    draw = random.Random(seed)
    run(*real, flows_in(100 * family + seed), conversation(draw, family))


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("service", [False, True])
def test_a_tcp_connection_with_a_repeated_syn(real, family, service):
    client, server, address = HOSTS[family]
    target = address if service else server
    there = [place(sim_tcp(client, target, 4000, 80, flags=f), INSIDE) for f in (SYN, ACK)]
    back = [place(sim_tcp(server, client, 80, 4000, flags=f), OUTSIDE) for f in (SYN | ACK, ACK)]
    sent = [
        (there[0], (100, 0)),
        (there[0], (100, 0)),
        (back[0], (500, 101)),
        (there[1], (101, 501)),
        (back[1], (501, 101)),
        (there[1], (101, 501)),
    ]
    run(*real, flows_in(1000 + 10 * family + service), sent)


def test_packets_that_begin_no_connection(real):
    client, server, _ = HOSTS[4]
    sent = [
        place(sim_tcp(server, client, 80, 4000, flags=SYN | ACK), OUTSIDE),
        *(place(sim_tcp(client, server, 1, 2, flags=f), INSIDE) for f in (0x03, 0x06, 0x01, 0x08)),
        place(sim_echo(server, client, reply=True), OUTSIDE),
        place(sim_tcp(client, server, 4001, 80, flags=ACK), INSIDE),
    ]
    run(*real, flows_in(2000), [(one, (100, 0)) for one in sent])


def test_errors_about_connections_and_about_none(real):
    client, server, _ = HOSTS[4]
    asked = place(sim_udp(client, server, 1000, 53), INSIDE)
    error = place(sim_icmp(server, client, 3, 3, quoted=asked), OUTSIDE)
    run(*real, flows_in(3000), [(one, (0, 0)) for one in (error, asked, error, asked)])


@pytest.mark.parametrize(("family", "begin"), [(4, sim_udp), (4, sim_tcp), (6, sim_udp)])
def test_errors_about_translated_connections(real, family, begin):
    """From the ends and from somebody between them, about packets of both directions.

    Not of TCP over IPv6: with the outer address the userspace datapath of Open vSwitch 3.1 brings a
    checksum up to date where TCP would have it, and it hits the address that the error quotes.
    """
    client, server, service = HOSTS[family]
    between = "10.0.0.77" if family == 4 else "fd00::77"
    flags = {"flags": SYN | ACK} if begin is sim_tcp else {}
    asked = place(begin(client, service, 1000, 53), INSIDE)
    seen = place(begin(client, server, 1000, 53), OUTSIDE)
    answer = place(begin(server, client, 53, 1000, **flags), OUTSIDE)
    answered = place(begin(service, client, 53, 1000, **flags), INSIDE)
    kind = (3, 3) if family == 4 else (1, 4)
    back = [place(sim_icmp(a, client, *kind, quoted=seen), OUTSIDE) for a in (server, between)]
    on = [place(sim_icmp(a, service, *kind, quoted=answered), INSIDE) for a in (client, between)]
    sent = [asked, back[0], back[1], answer, *back, *on, asked]
    run(*real, flows_in(4000 + family + (begin is sim_tcp)), [(p, (100, 0)) for p in sent])


@pytest.mark.parametrize("port", [300, 1000, 1023, 40000, 65535])
@pytest.mark.parametrize("begin", [sim_udp, sim_tcp])
def test_a_connection_that_would_become_another_one_gets_another_port(real, begin, port):
    """A client that calls an endpoint by itself and then by the service, from the same port."""
    if not datapath.USERSPACE:
        pytest.skip("the kernel's tracker takes a free port by chance")
    client, server, service = HOSTS[4]
    sent = [
        place(begin(client, server, port, 53), INSIDE),
        *(place(begin(client, service, port, 53), INSIDE) for _ in range(2)),
    ]
    zone = 5000 + 10 * (begin is sim_tcp) + port % 7
    run(*real, flows_in(zone), [(one, (100, 0)) for one in sent])
