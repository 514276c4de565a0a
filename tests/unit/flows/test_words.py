"""Flows in plain words: what people must be able to read, and that nothing is left out."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from service_objects import endpoint_slice, node, service

from ovsnet.controller.network import Network
from ovsnet.controller.services.compile import set_names
from ovsnet.flows.fields import Field
from ovsnet.flows.flow import (
    Conjunction,
    Ct,
    DecTtl,
    Flow,
    Goto,
    Group,
    HashSource,
    InPort,
    Learn,
    Move,
    Nat,
    NatKind,
    Output,
    OutputField,
    Owner,
    OwnerKind,
    Resubmit,
    SetField,
    Subfield,
    match,
    term,
    whole,
)
from ovsnet.flows.learnt import LEARNT_COOKIE
from ovsnet.flows.text import parse_flow
from ovsnet.flows.words import owner_text, owner_words, words
from ovsnet.names import Table

SETS = {0x1_0000_0002: "shop/web, port http"}


def reading(text, ports=None):
    found = words(parse_flow(text).flow, ports, SETS)
    return found.packets, found.outcome


@pytest.mark.parametrize(
    ("line", "packets", "outcome"),
    [
        ("table=0, priority=0 actions=drop", "all packets", "dropped"),
        (
            "table=0,in_port=1 actions=set_field:0x3/0xf->reg0,goto_table:1",
            "all packets, in by port ovsnet-gw0",
            "noted: source gateway; on to spoof_guard",
        ),
        (
            "table=0,in_port=2,tun_id=1 actions=goto_table:1",
            "all packets, in by port ovsnet-tun0, overlay network 1",
            "on to spoof_guard",
        ),
        (
            "table=1,ip,in_port=5,dl_src=0a:58:0a:01:02:03,nw_src=10.1.2.3 "
            "actions=goto_table:conntrack",
            "IPv4 packets, in by port web, source MAC 0a:58:0a:01:02:03, source 10.1.2.3",
            "on to conntrack",
        ),
        (
            "table=2,arp,arp_tpa=10.1.2.1,arp_op=1 actions=IN_PORT",
            "ARP requests, address asked for 10.1.2.1",
            "sent back where it came from",
        ),
        (
            "table=1,icmp6,icmp_type=134 actions=drop",
            "router advertisements",
            "dropped",
        ),
        (
            "table=conntrack_state,ct_state=-new+rel+trk actions=goto_table:route",
            "all packets, connection related and not new",
            "on to route",
        ),
        (
            "table=service,ct_state=+trk,ct_zone=0,ip,nw_frag=yes "
            "actions=ct(table=service,zone=65521)",
            "IPv4 packets, connection of any state, tracked in zone 0, in fragments",
            "tracked (zone 65521, services), then on to service",
        ),
        (
            "table=egress_policy,tcp6,ipv6_src=fd00::/64,tp_dst=443 actions=drop",
            "TCP over IPv6, source in fd00::/64, destination port 443",
            "dropped",
        ),
        (
            "table=route,ip,nw_dst=10.1.3.0/24 actions=dec_ttl,set_field:172.18.0.3->tun_dst,"
            "set_field:0x2->reg1,goto_table:commit",
            "IPv4 packets, destination in 10.1.3.0/24",
            "TTL less one; tunnelled to the node at 172.18.0.3; noted: out-port ovsnet-tun0; "
            "on to commit",
        ),
        (
            "table=commit,ct_state=+new+trk,ip actions=ct(commit,zone=65520),goto_table:output",
            "IPv4 packets, connection new",
            "connection committed (zone 65520); on to output",
        ),
        (
            "table=egress_policy,conj_id=9,ip actions=goto_table:egress_default",
            "IPv4 packets, every clause of conjunction 9 holds",
            "on to egress_default",
        ),
        (
            "table=egress_policy,ct_state=-inv+trk,ip,ct_nw_src=10.1.2.3 "
            "actions=conjunction(9,1/2)",
            "IPv4 packets, of a connection that began at 10.1.2.3",
            "clause 1 of 2 of conjunction 9 holds",
        ),
        (
            "table=ingress_policy,ct_state=-inv+trk,ipv6,ct_nw_proto=6,ct_tp_dst=80 "
            "actions=conjunction(9,2/2)",
            "IPv6 packets, of a connection by TCP, to its port 80",
            "clause 2 of 2 of conjunction 9 holds",
        ),
        (
            "table=egress_policy,ct_state=-inv+trk,ip,ct_nw_src=10.1.0.0/16 "
            "actions=conjunction(9,1/2)",
            "IPv4 packets, of a connection that began at an address in 10.1.0.0/16",
            "clause 1 of 2 of conjunction 9 holds",
        ),
        (
            "table=ingress_policy,ct_state=-inv+trk,ip,ct_nw_proto=17,ct_tp_dst=0x1f90/0xfffc "
            "actions=drop",
            "IPv4 packets, of a connection by UDP, to its ports 8080 to 8083",
            "dropped",
        ),
        (
            "table=output actions=output:NXM_NX_REG1[]",
            "all packets",
            "sent out of the port in out-port",
        ),
        (
            "table=balance,udp actions=learn(table=affinity,idle_timeout=60,limit=9,reg4=0x5,"
            "eth_type=0x800,NXM_OF_IP_SRC[],load:0x7->NXM_NX_REG8[]),set_field:0->in_port",
            "UDP over IPv4",
            "learnt in affinity: IPv4 packets, service-high 5, of the same source: "
            "noted: remembered endpoint 0x7, forgotten after 60 s without one; "
            "may leave by the port that it came in by",
        ),
        (
            "table=node_port,ip,nw_dst=172.18.0.1 "
            "actions=set_field:0x1000/0x1000->reg0,goto_table:service",
            "IPv4 packets, destination 172.18.0.1",
            "noted: for the node itself; on to service",
        ),
        (
            "table=service,tcp,reg0=0x1000/0x1000,reg3=0x10000/0x10000,tp_dst=30080 "
            "actions=set_field:0xb->reg4,set_field:0xc->reg5,set_field:0x10000/0x10000->reg0,"
            "set_field:0x40000/0x40000->reg0,set_field:0x20000/0x20000->reg0,"
            "ct(table=service_state,zone=65521,nat)",
            "TCP over IPv4, for the node itself, from a pod here or the node itself, "
            "destination port 30080",
            "noted: for the set of endpoints 0xb0000000c; noted: only endpoints here will do; "
            "noted: the endpoint sees the client; noted: clients keep their endpoint; "
            "tracked (zone 65521, services), translated as the connection was, "
            "then on to service_state",
        ),
        (
            "table=service_state,ct_state=+trk-dnat,tcp,reg0=0x1000/0x1000,tcp_flags=+ack "
            "actions=set_field:0->reg2,set_field:0->reg3,set_field:0->reg4,set_field:0->reg5,"
            "set_field:0->reg8,set_field:0/0x3f000->reg0,goto_table:conntrack",
            "TCP over IPv4, for the node itself, connection not destination translated, "
            "with flag ACK",
            "noted: for no service, all else about services forgotten; on to conntrack",
        ),
        (
            "table=service_state,reg0=0x20000/0x20000 actions=resubmit(,affinity),"
            "goto_table:sticky",
            "all packets, clients keep their endpoint",
            "looked up in affinity as well; on to sticky",
        ),
        (
            "table=sticky,tcp,reg4=0x1,reg5=0x2,reg8=0xf177 actions=set_field:0->reg2,"
            "set_field:0->reg3,set_field:0->reg4,set_field:0->reg5,set_field:0->reg8,"
            "set_field:0x2000/0x3f000->reg0,ct(commit,table=source_nat,zone=65521,"
            "nat(dst=10.244.1.5:8080),exec(set_field:0xf177->ct_mark))",
            "TCP over IPv4, for the endpoints of shop/web, port http, remembered endpoint 0xf177",
            "noted: served, all else about services forgotten; connection committed (zone 65521, "
            "services), destination translated to 10.244.1.5 port 8080, and mark of the "
            "connection becomes 0xf177, then on to source_nat",
        ),
        (
            "table=balance,tcp,reg4=0x1,reg5=0x2 actions=set_field:0x3/0xffff->reg3,group:2",
            "TCP over IPv4, for the endpoints of shop/web, port http",
            "noted: one of 3 endpoints; one of 256 slots by a hash (group 2)",
        ),
        ("table=balance actions=group:1", "all packets", "one of 16 slots by a hash (group 1)"),
        ("table=balance actions=group:3", "all packets", "one of 4096 slots by a hash (group 3)"),
        ("table=balance actions=group:4", "all packets", "one of 65536 slots by a hash (group 4)"),
        ("table=balance actions=group:77", "all packets", "handed on (group 77)"),
        (
            "table=balance,reg0=0x10000/0x10000 actions=drop",
            "all packets, only endpoints here will do",
            "dropped",
        ),
        (
            "table=spread,reg2=0x40/0xffc0,reg3=0x3/0xffff "
            "actions=set_field:0x10000/0xffff0000->reg2,goto_table:endpoint",
            "all packets, slots 64 to 127, one of 3 endpoints",
            "noted: endpoint number 1; on to endpoint",
        ),
        (
            "table=spread,reg2=0x40/0xffff,reg3=0x3/0xffff actions=drop",
            "all packets, slot 64, one of 3 endpoints",
            "dropped",
        ),
        (
            "table=endpoint,udp,reg2=0x10000/0xffff0000,reg4=0x1,reg5=0x2 "
            "actions=set_field:0x1->reg4,set_field:0x2->reg5,set_field:0x7->reg8,resubmit(,sticky)",
            "UDP over IPv4, endpoint number 1, for the endpoints of shop/web, port http",
            "noted: for the endpoints of shop/web, port http; noted: remembered endpoint 0x7; "
            "looked up in sticky as well",
        ),
        (
            "table=source_nat,ip,reg0=0x8000/0x8000,in_port=1 "
            "actions=set_field:0x4000/0x4000->reg0,ct(commit,table=conntrack,zone=65522,"
            "nat(src=10.244.1.2),exec(move:NXM_NX_REG0[13..15]->NXM_NX_CT_MARK[0..2]))",
            "IPv4 packets, refused, in by port ovsnet-gw0",
            "noted: source translated; connection committed (zone 65522, sources of services), "
            "source translated to 10.244.1.2, and marked with what services do to it, "
            "then on to conntrack",
        ),
        (
            "table=answer,ct_state=+rpl-inv+trk,ct_mark=0x3/0x7,ip "
            "actions=set_field:0x6000/0xe000->reg0,ct(table=answer_service,zone=65522,nat)",
            "IPv4 packets, connection reply direction and not invalid, "
            "connection marked: served and source translated",
            "noted: natted: served and source translated; tracked (zone 65522, sources of "
            "services), translated as the connection was, then on to answer_service",
        ),
        (
            "table=output,reg0=0x2000/0x6000 actions=drop",
            "all packets, served, not source translated",
            "dropped",
        ),
        ("table=0 actions=NORMAL", "all packets", "sent out of port NORMAL"),
        (
            "table=stamp,cookie=0x1 actions=drop",
            "no packet",
            "bears the digest of all other flows",
        ),
    ],
)
def test_readings(line, packets, outcome):
    found = reading(line, {5: "web"})
    assert found[0] == packets
    assert found[1].startswith(outcome)


def test_every_flow_of_the_pipeline_has_words_of_its_own():
    """In the dump of a real switch, nothing of ovs-ofctl's own syntax is left."""
    pipeline = Path(__file__).parents[3] / "docs" / "pipeline.md"
    lines = [line for line in pipeline.read_text().splitlines() if " actions=" in line]
    assert len(lines) > 40
    ports = {"ovsnet-gw0": 1, "ovsnet-tun0": 2, "web-k3j5n2qa": 3}
    for line in lines:
        found = words(parse_flow(line, ports).flow, {3: "web-k3j5n2qa"})
        assert "->" not in found.outcome
        assert "=" not in found.packets


def test_owners():
    pod = Flow(Table.ROUTE, 1, (), (), Owner(OwnerKind.POD, "shop/web").cookie)
    assert owner_words(pod, {pod.cookie: "pod shop/web"}) == "pod shop/web"
    assert owner_words(pod, {}) == "a pod"
    assert owner_words(Flow(Table.ROUTE, 1, ()), {}) == "nobody that ovsnet knows"
    learnt = Flow(Table.AFFINITY, 1, (), (), LEARNT_COOKIE)
    assert owner_words(learnt, {}) == "the switch itself, which learnt it"
    stamp = Flow(Table.STAMP, 0, (), (), Owner(OwnerKind.POD, "x").cookie)
    assert owner_words(stamp, {stamp.cookie: "pod x"}) == "the stamp of the controller"


def test_owners_by_name():
    for name, text in (
        ("shop/web", "service shop/web"),
        ("shop/web on this node", "service shop/web on this node"),
        ("one of 3", "all services with 3 endpoints"),
        ("address fd00::1", "the services that have the address fd00::1"),
    ):
        assert owner_text(Owner(OwnerKind.SERVICE, name)) == text
    assert owner_text(Owner(OwnerKind.POD, "one of 3")) == "pod one of 3"


FIELD = st.sampled_from(Field)


@st.composite
def terms(draw):
    field = draw(FIELD)
    mask = draw(st.none() | st.integers(1, field.full))
    return term(field, draw(st.integers(0, field.full)), mask)


@st.composite
def sets(draw):
    field = draw(FIELD)
    mask = draw(st.none() | st.integers(1, field.full))
    value = draw(st.integers(0, field.full))
    return SetField(field, value if mask is None else value & mask, mask)


def parts(bits=None):
    return FIELD.map(whole) if bits is None else st.just(Subfield(Field.REG5, 3, bits))


TABLE = st.sampled_from(Table)
NUMBER = st.integers(0, 2**31)
NAT = st.builds(Nat, st.sampled_from(NatKind), st.none() | NUMBER, st.just(32))
ACTION = st.one_of(
    sets(),
    st.builds(Move, parts(), parts()),
    st.builds(Move, parts(4), parts(4)),
    st.builds(HashSource, parts(), NUMBER, NUMBER),
    st.builds(Output, NUMBER),
    st.builds(OutputField, parts()),
    st.builds(InPort),
    st.builds(DecTtl),
    st.builds(Goto, TABLE),
    st.builds(Resubmit, TABLE),
    st.builds(Group, NUMBER),
    st.builds(Conjunction, NUMBER, st.integers(1, 3), st.just(3)),
    st.builds(
        Ct,
        st.integers(0, 65535),
        st.none() | TABLE,
        st.booleans(),
        st.booleans(),
        st.none() | NAT,
        st.lists(sets(), max_size=1).map(tuple),
    ),
    st.builds(
        Learn,
        TABLE,
        NUMBER,
        st.lists(FIELD, max_size=2).map(tuple),
        st.lists(terms(), max_size=2).map(tuple),
        parts() | parts(4),
        st.integers(0, 3),
        *[st.integers(0, 65535)] * 3,
    ),
)


def is_set_of_endpoints(pair):
    """Whether two actions name a set of endpoints together, half of its id each."""
    both = all(isinstance(a, SetField) and a.mask is None for a in pair)
    return both and [a.field for a in pair] == [Field.REG4, Field.REG5]


@given(st.lists(terms(), max_size=5, unique_by=lambda t: t.field), st.lists(ACTION, max_size=4))
def test_any_flow_can_be_read_and_each_of_its_parts_is_told(conditions, actions):
    flow = Flow(Table.ROUTE, 1, match(*conditions), tuple(actions))
    found = words(flow)
    assert found.packets.isprintable()
    assert found.outcome.isprintable()
    if not actions:
        assert found.outcome == "dropped"
    else:
        together = sum(map(is_set_of_endpoints, itertools.pairwise(actions)))
        assert len(found.outcome.split("; ")) >= len(actions) - together


@given(st.data(), FIELD.filter(lambda field: field is not Field.CT_STATE))
def test_different_conditions_on_a_field_read_differently(data, field):
    values = st.integers(0, field.full)
    masks = st.none() | st.integers(1, field.full)
    one, other = (term(field, data.draw(values), data.draw(masks)) for _ in range(2))
    same = words(Flow(Table.ROUTE, 1, (one,))) == words(Flow(Table.ROUTE, 1, (other,)))
    assert same == (one == other)


def test_different_services_read_differently():
    """Every flow of a few services says something else than every other one of its table."""
    network = Network(hash)
    network.set_nodes([node(1), node(2)])
    network.put_service(
        service("shop/web", "http=80@30080", affinity=60, local="external", external="192.0.2.1")
    )
    network.put_service(service("shop/dns", "dns=53/UDP", cluster="10.96.0.2 fd00:96::2"))
    network.put_slice(endpoint_slice("shop/web", ["http=8080"], "10.244.1.5", "10.244.2.6"))
    network.put_slice(
        endpoint_slice("shop/dns", ["dns=53/UDP"], *(f"10.244.1.{n}" for n in range(5, 12)))
    )
    sets = dict(names for each in network.board.services.values() for names in set_names(each))
    told = {}
    for flow in network.ledger("node-1").flows.values():
        found = words(flow, sets=sets)
        assert "reg" not in found.packets.replace("register", "")
        assert "->reg" not in found.outcome
        key = (flow.table, flow.priority, found.packets)
        assert key not in told, (flow, told[key])
        told[key] = flow
    assert len([key for key in told if key[0] is Table.SPREAD]) > 8
