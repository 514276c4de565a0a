"""The simulator against the userspace datapath over connections that pass several zones, as those
to services do: one that translates the destination, one that translates the source, and one that
only remembers, whose mark says what is to be undone in answers. Each packet leaves after every zone
with what the tracker said of it in its Ethernet addresses.
"""

from __future__ import annotations

import random

import pytest
from connection_agreement import INSIDE, OUTSIDE, TELL, connection_switch, place, run

from ovsnet.flows.simulator import icmp as sim_icmp
from ovsnet.flows.simulator import tcp as sim_tcp
from ovsnet.flows.simulator import udp as sim_udp
from ovsnet.flows.simulator.packet import ACK, SYN

KEPT = "move:NXM_NX_REG0[0..2]->NXM_NX_CT_MARK[0..2]"
FLOWS = """
    table=0,priority=2,{ip},{to}={service} actions=ct(table=1,zone={S},nat)
    table=0,priority=1,{ip} actions=resubmit(,3)

    table=1,priority=3,{ip},ct_state=+inv+trk actions={TELL},output:5
    table=1,priority=2,{ip},ct_state=+trk+dnat actions={TELL},output:5,load:1->reg0[0],resubmit(,2)
    table=1,priority=1,udp{six},ct_state=+new+trk,in_port=3 actions={TELL},output:5,load:1->reg0[0],load:0x{S}->reg4,ct(commit,zone={S},nat(dst={target}),exec(move:NXM_NX_REG4[]->NXM_NX_CT_MARK[]),table=2)
    table=1,priority=1,tcp{six},ct_state=+new+trk,in_port=3 actions={TELL},output:5,load:1->reg0[0],load:0x{S}->reg4,ct(commit,zone={S},nat(dst={target}),exec(move:NXM_NX_REG4[]->NXM_NX_CT_MARK[]),table=2)
    table=1,priority=0 actions={TELL},output:5

    table=2,priority=1,{ip},{from}={far} actions={TELL},output:5,load:1->reg0[1],ct(commit,zone={N},nat(src={mask}),exec({KEPT}),table=3)
    table=2,priority=0 actions={TELL},output:5,resubmit(,3)

    table=3,{ip} actions={TELL},output:5,ct(table=4,zone={P})

    table=4,priority=2,{ip},ct_state=+inv+trk actions={TELL},output:5
    table=4,priority=1,{ip},ct_state=+new+trk actions={TELL},output:5,ct(commit,zone={P},exec({KEPT})),output:5
    table=4,priority=0 actions={TELL},output:5,resubmit(,5)

    table=5,priority=1,{ip},ct_state=+rpl+trk,ct_mark=1/7 actions=ct(table=7,zone={S},nat)
    table=5,priority=1,{ip},ct_state=+rpl+trk,ct_mark=3/7 actions=ct(table=6,zone={N},nat)
    table=5,priority=0 actions=drop
    table=6,{ip} actions={TELL},output:5,ct(table=7,zone={S},nat)
    table=7 actions={TELL},output:5
"""  # noqa: E501
NEAR, FAR, SERVER, SERVICE, MASK = range(5)
HOSTS = {
    4: ("10.0.0.1", "10.0.0.3", "10.0.0.2", "10.96.0.1", "10.9.0.1"),
    6: ("fd00::1", "fd00::3", "fd00::2", "fd00:96::1", "fd00:9::1"),
}


def flows_in(zone: int, family: int) -> str:
    """The flows, with zones of their own."""
    hosts = HOSTS[family]
    four = family == 4
    return FLOWS.format(
        ip="ip" if four else "ipv6",
        six="" if four else "6",
        to="nw_dst" if four else "ipv6_dst",
        target=f"{hosts[SERVER]}:8080" if four else f"[{hosts[SERVER]}]:8080",
        service=hosts[SERVICE],
        far=hosts[FAR],
        mask=hosts[MASK],
        S=zone,
        N=zone + 1,
        P=zone + 2,
        TELL=TELL,
        KEPT=KEPT,
        **{"from": "nw_src" if four else "ipv6_src"},
    )


@pytest.fixture(scope="module")
def real():
    """A switch and its wires."""
    with connection_switch("zones") as made:
        yield made


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("seed", range(12))
def test_datagrams_in_any_order(real, family, seed):
    """To the service and past it, from clients whose source is translated and others, and back."""
    near, far, server, service, mask = HOSTS[family]
    draw = random.Random(seed)
    kinds = []
    for port in (1000, 1001):
        kinds += [
            *(place(sim_udp(client, service, port, 80), INSIDE) for client in (near, far)),
            *(place(sim_udp(client, server, port, 8080), INSIDE) for client in (near, far)),
            *(place(sim_udp(server, to, 8080, port), OUTSIDE) for to in (near, far, mask)),
        ]
    sent = [(draw.choice(kinds), (0, 0)) for _ in range(25)]
    run(*real, flows_in(10_000 + 100 * family + 3 * seed, family), sent)


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("who", [NEAR, FAR])
def test_a_tcp_connection_with_repeated_segments(real, family, who):
    hosts = HOSTS[family]
    client, server, service = hosts[who], hosts[SERVER], hosts[SERVICE]
    seen = hosts[MASK] if who == FAR else client
    syn, ack = (place(sim_tcp(client, service, 4000, 80, flags=f), INSIDE) for f in (SYN, ACK))
    answer, more = (
        place(sim_tcp(server, seen, 8080, 4000, flags=f), OUTSIDE) for f in (SYN | ACK, ACK)
    )
    sent = [
        *((syn, (100, 0)), (syn, (100, 0)), (answer, (500, 101)), (ack, (101, 501))),
        *((more, (501, 101)), (ack, (101, 501))),
    ]
    run(*real, flows_in(20_000 + 100 * family + 3 * who, family), sent)


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("who", [NEAR, FAR])
def test_errors_about_connections_in_both_directions(real, family, who):
    hosts = HOSTS[family]
    client, server, service = hosts[who], hosts[SERVER], hosts[SERVICE]
    seen = hosts[MASK] if who == FAR else client
    kind = (3, 3) if family == 4 else (1, 4)
    asked = place(sim_udp(client, service, 1000, 80), INSIDE)
    received = place(sim_udp(seen, server, 1000, 8080), OUTSIDE)
    answer = place(sim_udp(server, seen, 8080, 1000), OUTSIDE)
    answered = place(sim_udp(service, client, 80, 1000), INSIDE)
    back = place(sim_icmp(server, seen, *kind, quoted=received), OUTSIDE)
    on = place(sim_icmp(client, service, *kind, quoted=answered), INSIDE)
    sent = [asked, back, answer, back, on, asked]
    run(*real, flows_in(30_000 + 100 * family + 3 * who, family), [(p, (0, 0)) for p in sent])
