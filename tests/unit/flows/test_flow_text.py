"""Flows as text: what is printed can be read back, and real lines of ovs-ofctl can be read."""

from __future__ import annotations

import pytest
from flow_strategies import flows
from hypothesis import given, settings

from ovsnet.flows.fields import CtState, EthType, Field, IpProto
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
    Resubmit,
    SetField,
    Subfield,
    Term,
    match,
    whole,
)
from ovsnet.flows.text import (
    parse_actions,
    parse_flow,
    parse_flows,
    parse_match,
    print_actions,
    print_flow,
)
from ovsnet.names import Table

F = Field
PORTS = {1: "ovsnet-gw0", 2: "ovsnet-tun0", 7: "web"}
NUMBERS = {name: number for number, name in PORTS.items()}
DNAT, SNAT = NatKind.DESTINATION, NatKind.SOURCE
REG0_TO_MARK = Move(whole(F.REG0), whole(F.CT_MARK))
HOLED = 0xFFFF << 112 | 1
FULL = 0xFFFFFFFF
FD1 = 0xFD << 120 | 1
IPV4 = Term(F.ETH_TYPE, EthType.IPV4)
IPV6 = Term(F.ETH_TYPE, EthType.IPV6)
AFFINE = Learn(
    Table.AFFINITY,
    priority=100,
    same=(F.IPV4_SRC,),
    where=(IPV4, Term(F.REG4, 5)),
    target=whole(F.REG8),
    value=9,
    idle=10800,
    limit=5,
    cookie=7,
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(flows())
def test_what_is_printed_reads_back_as_the_same_flow(flow):
    assert parse_flow(print_flow(flow)).flow == flow
    assert parse_flow(print_flow(flow, PORTS), NUMBERS).flow == flow


def test_a_flow_is_printed_as_ovs_ofctl_does():
    flow = Flow(
        Table.CONNTRACK_STATE,
        200,
        match(
            Term(F.TCP_DST, 0x50, 0xFFF0),
            Term(F.REG0, 1, 0xF),
            Term(F.IN_PORT, 1),
            IPV4,
            Term(F.IP_PROTO, IpProto.TCP),
            Term(F.IPV4_SRC, 0x0A000000, 0xFF000000),
            Term(F.CT_STATE, CtState.TRK, CtState.TRK | CtState.INV),
        ),
        (SetField(F.REG1, 5), DecTtl(), Goto(Table.EGRESS_DEFAULT)),
        0xAB,
    )
    assert print_flow(flow, PORTS) == (
        'cookie=0xab, table="conntrack_state", priority=200,ct_state=-inv+trk,tcp,reg0=0x1/0xf,'
        'in_port="ovsnet-gw0",nw_src=10.0.0.0/8,tp_dst=0x50/0xfff0 '
        'actions=set_field:0x5->reg1,dec_ttl,goto_table:"egress_default"'
    )


def test_a_dumped_line_yields_its_statistics_too():
    found = parse_flow(
        " cookie=0x2a, duration=12.345s, table=3, n_packets=7, n_bytes=1234, idle_age=1, "
        "hard_age=9, idle_timeout=30, send_flow_rem priority=5,arp actions=drop"
    )
    assert found.flow == Flow(Table(3), 5, (Term(F.ETH_TYPE, EthType.ARP),), (), 42)
    assert (found.packets, found.bytes, found.duration) == (7, 1234, 12.345)
    assert (found.idle_age, found.hard_age) == (1, 9)
    assert found.foreign == ("idle_timeout=30", "send_flow_rem")


def test_a_line_of_add_flow_may_leave_out_nearly_everything():
    assert parse_flow("actions=drop").flow == Flow(Table.CLASSIFY, 32768, ())
    assert parse_flow(" table=2,  actions=drop").flow == Flow(Table.NEIGHBOUR, 32768, ())


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("ip,nw_src=10.0.0.0/8", [IPV4, Term(F.IPV4_SRC, 0x0A000000, 0xFF000000)]),
        ("ip,ip_src=10.1.2.3/255.0.0.255", [IPV4, Term(F.IPV4_SRC, 0x0A000003, 0xFF0000FF)]),
        ("dl_type=0x800,ip_dst=1.2.3.4/32", [IPV4, Term(F.IPV4_DST, 0x01020304)]),
        ("ip,nw_dst=1.2.3.4/0", [IPV4]),
        ("arp,nw_src=1.2.3.4", [Term(F.ETH_TYPE, 0x806), Term(F.ARP_SPA, 0x01020304)]),
        ("arp,arp_op=2", [Term(F.ETH_TYPE, 0x806), Term(F.ARP_OP, 2)]),
        ("tcp,tp_src=1", [IPV4, Term(F.IP_PROTO, 6), Term(F.TCP_SRC, 1)]),
        ("tcp,tcp_dst=1", [IPV4, Term(F.IP_PROTO, 6), Term(F.TCP_DST, 1)]),
        ("udp6,tp_dst=1", [IPV6, Term(F.IP_PROTO, 17), Term(F.UDP_DST, 1)]),
        ("sctp,tp_dst=0x10/0xf0", [IPV4, Term(F.IP_PROTO, 132), Term(F.SCTP_DST, 16, 240)]),
        ("icmp,icmp_type=8", [IPV4, Term(F.IP_PROTO, 1), Term(F.ICMP_TYPE, 8)]),
        ("icmp6,icmp_type=135", [IPV6, Term(F.IP_PROTO, 58), Term(F.ICMPV6_TYPE, 135)]),
        ("icmp6,tp_src=135", [IPV6, Term(F.IP_PROTO, 58), Term(F.ICMPV6_TYPE, 135)]),
        ("icmp6,icmpv6_type=1", [IPV6, Term(F.IP_PROTO, 58), Term(F.ICMPV6_TYPE, 1)]),
        ("ipv6,nw_proto=17,tp_src=1", [IPV6, Term(F.IP_PROTO, 17), Term(F.UDP_SRC, 1)]),
        ("ct_state=+new-est", [Term(F.CT_STATE, 1, 3)]),
        ("ct_state=0x21/0x23", [Term(F.CT_STATE, 0x21, 0x23)]),
        ("ct_state=new|trk", [Term(F.CT_STATE, 0x21, 0xFF)]),
        ("dl_src=0:1:2:3:4:5", [Term(F.ETH_SRC, 0x000102030405)]),
        ("eth_dst=01:00:00:00:00:00/01:00:00:00:00:00", [Term(F.ETH_DST, 1 << 40, 1 << 40)]),
        ("ipv6,ipv6_src=fd00::1/ffff::1", [IPV6, Term(F.IPV6_SRC, FD1, HOLED)]),
        ("in_port=LOCAL", [Term(F.IN_PORT, 0xFFFFFFFE)]),
        ('in_port="ovsnet-gw0"', [Term(F.IN_PORT, 1)]),
        ("in_port=web", [Term(F.IN_PORT, 7)]),
        ("ip,ip_frag=not_later", [IPV4, Term(F.IP_FRAG, 0, 2)]),
        ("tcp,tcp_flags=+syn-ack", [IPV4, Term(F.IP_PROTO, 6), Term(F.TCP_FLAGS, 2, 0x12)]),
        ("tcp,tcp_flags=syn|ack", [IPV4, Term(F.IP_PROTO, 6), Term(F.TCP_FLAGS, 0x12)]),
        ("ct_label=0x10/0xff,tun_id=0x5", [Term(F.TUN_ID, 5), Term(F.CT_LABEL, 16, 255)]),
    ],
)  # fmt: skip
def test_matches_are_read_in_every_spelling(text, terms):
    assert parse_match(text, NUMBERS) == match(*terms)


@pytest.mark.parametrize(
    ("text", "actions"),
    [
        ("drop", ()),
        ("", ()),
        ("output:7,IN_PORT,in_port", (Output(7), InPort(), InPort())),
        ('output:"ovsnet-gw0",output:web,5', (Output(1), Output(7), Output(5))),
        ("LOCAL,NORMAL,CONTROLLER:65535", (Output(FULL - 1), Output(FULL - 5), Output(FULL - 2))),
        ("output:NXM_NX_REG1[]", (OutputField(whole(F.REG1)),)),
        ("output:reg1", (OutputField(whole(F.REG1)),)),
        ("output:reg1[0..15]", (OutputField(Subfield(F.REG1, 0, 16)),)),
        ("load:0x5->NXM_NX_REG0[4..7]", (SetField(F.REG0, 0x50, 0xF0),)),
        ("load:5->NXM_OF_IP_SRC[]", (SetField(F.IPV4_SRC, 5),)),
        ("set_field:5->reg0[4..7]", (SetField(F.REG0, 0x50, 0xF0),)),
        ("set_field:0x5/0xf->reg0", (SetField(F.REG0, 5, 15),)),
        ("set_field:fd00::1->ipv6_src", (SetField(F.IPV6_SRC, FD1),)),
        ("set_field:0a:58:00:00:00:01->nd_tll", (SetField(F.ND_TLL, 0x0A5800000001),)),
        ("move:NXM_OF_ETH_SRC[]->eth_dst", (Move(whole(F.ETH_SRC), whole(F.ETH_DST)),)),
        ("move:reg0[3]->OXM_OF_TCP_SRC[5]",
         (Move(Subfield(F.REG0, 3, 1), Subfield(F.TCP_SRC, 5, 1)),)),
        ("multipath(nw_src,1,modulo_n,16,0,NXM_NX_REG2[0..3])",
         (HashSource(Subfield(F.REG2, 0, 4), 16, 1),)),
        ("multipath(nw_src, 0, modulo_n, 65536, 7, reg2[16..31])",
         (HashSource(Subfield(F.REG2, 16, 16), 1 << 16, 0),)),
        ('resubmit(,5),goto_table:"egress_policy"',
         (Resubmit(Table(5)), Goto(Table.EGRESS_POLICY))),
        ("set_field:0->in_port", (SetField(F.IN_PORT, 0),)),
        ("load:0x0->NXM_OF_IN_PORT[],set_field:web->in_port",
         (SetField(F.IN_PORT, 0), SetField(F.IN_PORT, 7))),
        ("learn(table=affinity,idle_timeout=10800,priority=100,limit=5,cookie=0x7,eth_type=0x800,"
         "reg4=0x5,NXM_OF_IP_SRC[],load:0x9->NXM_NX_REG8[])", (AFFINE,)),
        ('learn(table="affinity",NXM_OF_IP_SRC[],cookie=7,limit=5,load:9->reg8,dl_type=0x0800,'
         "priority=100,reg4=5,idle_timeout=10800)", (AFFINE,)),
        ("learn(table=affinity,limit=5,in_port_oxm=web,load:0->reg8[4..7])",
         (Learn(Table.AFFINITY, 32768, (), (Term(F.IN_PORT, 7),),
                Subfield(F.REG8, 4, 4), 0, 0, 5, 0),)),
        ("conjunction(5,1/2),conjunction(6, 2/3)", (Conjunction(5, 1, 2), Conjunction(6, 2, 3))),
        ("dec_ttl,group:9", (DecTtl(), Group(9))),
        ("ct(table=4,zone=65520)", (Ct(65520, Table(4)),)),
        ("ct(commit,force,nat)", (Ct(0, commit=True, force=True, nat=Nat()),)),
        ("ct(commit,nat(dst=10.0.0.1:80))",
         (Ct(0, commit=True, nat=Nat(DNAT, 0x0A000001, 32, 80)),)),
        ("ct(commit,nat(src=[fd00::1]:80))",
         (Ct(0, commit=True, nat=Nat(SNAT, FD1, 128, 80)),)),
        ("ct(commit,nat(src=fd00::1))", (Ct(0, commit=True, nat=Nat(SNAT, FD1, 128)),)),
        ("ct(commit,exec(set_field:0x1/0x3->ct_mark,move:reg0->ct_mark))",
         (Ct(0, commit=True, then=(SetField(F.CT_MARK, 1, 3), REG0_TO_MARK)),)),
    ],
)  # fmt: skip
def test_actions_are_read_in_every_spelling(text, actions):
    assert parse_actions(text, NUMBERS) == actions
    assert parse_actions(print_actions(actions, PORTS), NUMBERS) == actions


@pytest.mark.parametrize(
    ("line", "part", "expected"),
    [
        ("table=0,ip", "table=0,ip", "actions="),
        ("table=77 actions=drop", "77", "classify"),
        ("table=nowhere actions=drop", "nowhere", "route"),
        ("priority=70000 actions=drop", "priority=70000", "16 bits"),
        ("cookie=-1 actions=drop", "cookie=-1", "number"),
        ("duration=5m, actions=drop", "duration=5m", "1.5s"),
        ("vlan_tci=5 actions=drop", "vlan_tci", "name of a field"),
        ("mpls actions=drop", "'mpls'", "icmp6"),
        ("ip,tcp actions=drop", "'tcp'", "one protocol"),
        ("ip,nw_src=1.2.3 actions=drop", "nw_src=1.2.3", "IPv4"),
        ("ip,nw_src=1.2.3.4/40 actions=drop", "/40", "32"),
        ("ip,nw_src=::1 actions=drop", "'::1'", "IPv4"),
        ("ip,nw_src=1.1.1.1,nw_src=1.1.1.2 actions=drop", "nw_src", "twice"),
        ("tcp,tp_src=1,tcp_src=1 actions=drop", "tcp_src", "twice"),
        ("ip,tp_src=1 actions=drop", "tp_src", "protocol"),
        ("udp,icmp_type=1 actions=drop", "icmp_type", "protocol"),
        ("dl_src=1:2:3 actions=drop", "dl_src=1:2:3", "MAC"),
        ("in_port=nobody actions=drop", "in_port=nobody", "ovsnet-gw0"),
        ("ct_state=+gone actions=drop", "'gone'", "new"),
        ("ct_state=+new! actions=drop", "+new!", "flags"),
        ("reg0=0x100000000 actions=drop", "reg0=0x100000000", "32 bits"),
        ("actions=fly", "fly", "set_field"),
        ("actions=learn(table=1)", "learn(table=1)", "a limit"),
        ("actions=learn(limit=1,load:1->reg0)", "learn", "a table"),
        ("actions=learn(table=1,limit=1,reg1=1)", "learn", "one load"),
        ("actions=learn(table=1,limit=1,reg1[0..3],load:1->reg0)", "reg1[0..3]", "whole field"),
        ("actions=learn(table=1,limit=1,reg1=1/3,load:1->reg0)", "reg1=1/3", "no mask"),
        ("actions=learn(table=1,limit=1,hard_timeout=1,load:1->reg0)", "hard_timeout", "idle_tim"),
        ("actions=learn(table=1,limit=1,load:4->reg0[0..1])", "'4'", "2 bits"),
        ("actions=set_field:5", "set_field:5", "->"),
        ("actions=set_field:5->nowhere", "nowhere", "field"),
        ("actions=set_field:5/1->reg0", "set_field:5/1->reg0", "outside the mask"),
        ("actions=load:16->reg0[0..3]", "load:16", "4 bits"),
        ("actions=move:reg0[0..3]->reg1[0..4]", "move:", "4 bits do not fit 5"),
        ("actions=output:reg1[0..32]", "output:reg1", "between 0 and 31"),
        ("actions=conjunction(1,3/2)", "conjunction(1,3/2)", "clause"),
        ("actions=ct(alg=ftp)", "alg=ftp", "commit"),
        ("actions=ct(nat(up=1.2.3.4))", "up=1.2.3.4", "src"),
        ("actions=ct(commit,exec(drop))", "exec", "action"),
        ("actions=resubmit(3,4)", "resubmit(3,4)", "resubmit(,table)"),
        ("actions=output:1,output(2", "output(2", "an action"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_named_with_what_was_expected(line, part, expected):
    with pytest.raises(ValueError, match=r".") as caught:
        parse_flow(line, NUMBERS)
    assert part in str(caught.value)
    assert expected in str(caught.value)


def test_a_dump_is_read_without_its_headings_and_errors_name_the_line():
    dump = "OFPST_FLOW reply (OF1.5) (xid=0x2):\n\n cookie=0x1, table=0, ip actions=drop\n"
    assert [found.flow.cookie for found in parse_flows(dump)] == [1]
    with pytest.raises(ValueError, match=r"^line 4: .*bad"):
        list(parse_flows(dump + "bad actions=drop\n"))


def test_a_nat_to_a_port_alone_cannot_be_printed():
    with pytest.raises(ValueError, match="expected an address"):
        print_actions((Ct(0, commit=True, nat=Nat(SNAT, None, 32, 80)),))
