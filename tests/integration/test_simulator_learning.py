"""The simulator against the datapath over flows that a switch learns: the same packets
leave it, and the same flows stand in it after each of them.
"""

from __future__ import annotations

import random

import pytest
from connection_agreement import INSIDE, OUTSIDE, connection_switch, place, run

from ovsnet.flows.simulator import tcp as sim_tcp
from ovsnet.flows.simulator import udp as sim_udp

LEARN = (
    "learn(table=affinity,idle_timeout=600,priority=100,limit=3,cookie=0x0700000000000000,"
    "{ether},reg4=0x5,{source},load:{value}->NXM_NX_REG8[])"
)
SHOW = "move:NXM_NX_REG8[]->NXM_OF_ETH_SRC[0..31],output:5"
FLOWS = """
    table=0,udp{six} actions=set_field:5->reg4,resubmit(,affinity),{SHOW},goto_table:1
    table=0,tcp{six} actions=set_field:5->reg4,ct(table=2,zone=77)
    table=1,{ip},in_port=3 actions={LEARN3},resubmit(,affinity),{SHOW}
    table=1,{ip},in_port=4 actions={LEARN4},set_field:0->in_port,output:5
    table=2,{ip} actions={LEARN3},ct(table=3,zone=78)
    table=3,{ip} actions=resubmit(,affinity),{SHOW}
    table=affinity,priority=0 actions=set_field:9->reg8
    {PRESENT}
"""
CLIENTS = {
    4: tuple(f"10.0.0.{n}" for n in range(1, 6)),
    6: tuple(f"fd00::{n}" for n in range(1, 6)),
}
SERVER = {4: "10.0.0.99", 6: "fd00::99"}


def flows(family: int, present: str = "") -> str:
    """The flows, and those that are there already."""
    four = family == 4
    ether = "eth_type=0x800" if four else "eth_type=0x86dd"
    source = "NXM_OF_IP_SRC[]" if four else "NXM_NX_IPV6_SRC[]"
    third, fourth = (LEARN.format(ether=ether, source=source, value=v) for v in ("0x3", "0x4"))
    names = {"SHOW": SHOW, "LEARN3": third, "LEARN4": fourth, "PRESENT": present}
    return FLOWS.format(six="" if four else "6", ip="ip" if four else "ipv6", **names)


@pytest.fixture(scope="module")
def real():
    """A switch and its wires."""
    with connection_switch("learns") as made:
        yield made


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("seed", range(6))
def test_clients_come_in_any_order_more_of_them_than_may_be_learnt(real, family, seed):
    draw = random.Random(seed)
    sent = []
    for number in range(20):
        client, port = draw.choice(CLIENTS[family]), draw.choice((INSIDE, OUTSIDE))
        begin = draw.choice((sim_udp, sim_tcp))
        sent.append((place(begin(client, SERVER[family], 1000 + number, 80), port), (100, 0)))
    run(*real, flows(family), sent)


@pytest.mark.parametrize("cookie", ["0x5", "0x0700000000000000"])
def test_what_is_there_is_learnt_anew_while_there_is_room(real, cookie):
    """A flow that somebody else wrote with the same match counts for nothing."""
    present = "\n".join(
        f"table=affinity,priority=100,cookie={cookie},ip,reg4=5,nw_src={client} "
        "actions=set_field:6->reg8"
        for client in CLIENTS[4][:3]
    )
    sent = [
        (place(sim_udp(client, SERVER[4], 1000, 80), port), (0, 0))
        for client in CLIENTS[4][:4]
        for port in (OUTSIDE, INSIDE, OUTSIDE)
    ]
    run(*real, flows(4, present), sent)
