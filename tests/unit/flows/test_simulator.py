"""The simulator's own rules, without a switch: lookups, loops, groups, flows that it learns.

That it does what Open vSwitch does is shown in tests/integration/test_simulator_trace.py.
"""

from __future__ import annotations

import pytest
from flow_strategies import NARROW, flow_sets, packets
from hypothesis import given, settings
from hypothesis import strategies as st
from written_switch import PING, switch

from ovsnet.flows.balance import GROUPS
from ovsnet.flows.fields import Field
from ovsnet.flows.flow import Action, Conjunction, SelectGroup
from ovsnet.flows.simulator import (
    GroupEntry,
    GroupKind,
    Reason,
    advertisement,
    arp,
    selecting,
    solicitation,
    udp,
)
from ovsnet.flows.simulator.lookup import TableIndex
from ovsnet.flows.text import parse_actions, print_flow
from ovsnet.names import Table

F = Field


def _bucket(text: str) -> tuple[Action, ...]:
    return parse_actions(text, {})


def group(kind: GroupKind, *buckets: str) -> GroupEntry:
    return GroupEntry(kind, tuple(parse_actions(bucket, {}) for bucket in buckets))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(flow_sets(NARROW, max_size=25, max_fields=2), st.lists(packets(), min_size=1, max_size=5))
def test_a_lookup_finds_what_trying_every_flow_finds(flows, some):
    plain = [f for f in flows if not any(isinstance(a, Conjunction) for a in f.actions)]
    index = TableIndex(plain)
    for packet in some:
        fits = [f for f in plain if all(_holds(term, packet.matchable) for term in f.match)]
        best = max((f.priority for f in fits), default=None)
        tied = {f.key for f in fits if f.priority == best}
        # An index does not ask which table a flow is in, so these are all in one.
        found = index.lookup(packet.matchable)
        got = {f.key for f in (found.flow, *found.rivals) if f is not None}
        assert got == tied


def _holds(term, values) -> bool:
    mask = (1 << term.field.bits) - 1 if term.mask is None else term.mask
    return values[term.field] & mask == term.value & mask


class TestConjunctions:
    FLOWS = """
        priority=5,conj_id=7,ip actions=output:4
        priority=5,ip,nw_src=10.0.0.1 actions=conjunction(7,1/2)
        priority=5,ip,nw_src=10.0.0.3 actions=conjunction(7,1/2)
        priority=5,udp,tp_dst=53 actions=conjunction(7,2/2)
        priority=5,udp,tp_dst=54 actions=conjunction(7,2/2)
        priority=1 actions=output:5
    """

    @pytest.mark.parametrize(
        ("source", "port", "out"),
        [
            ("10.0.0.1", 53, (4,)),
            ("10.0.0.3", 54, (4,)),
            ("10.0.0.2", 53, (5,)),
            ("10.0.0.1", 55, (5,)),
        ],
    )
    def test_all_clauses_must_hold(self, source, port, out):
        assert switch(self.FLOWS).trace(udp(source, "10.0.0.9", 1, port).on(3)).ports == out

    def test_a_plain_flow_of_the_same_priority_wins(self):
        text = self.FLOWS + "priority=5,udp,tp_src=1000 actions=drop"
        assert switch(text).trace(PING).dropped

    def test_without_a_flow_for_its_id_the_packet_goes_on_below(self):
        text = self.FLOWS.replace("conj_id=7,ip", "conj_id=8,ip")
        assert switch(text).trace(PING).ports == (5,)

    def test_a_plain_flow_hidden_by_a_clause_of_the_same_match_gets_its_turn(self):
        text = """
            priority=5,ip,nw_src=10.0.0.1 actions=conjunction(7,1/2)
            priority=4,ip,nw_src=10.0.0.1 actions=output:4
            priority=1 actions=output:5
        """
        assert switch(text).trace(PING).ports == (4,)

    def test_the_flow_for_its_id_may_be_less_urgent_than_a_plain_flow(self):
        text = """
            priority=5,ip,nw_src=10.0.0.1 actions=conjunction(7,1/2)
            priority=5,udp actions=conjunction(7,2/2)
            priority=2,conj_id=7 actions=output:4
            priority=3 actions=output:5
        """
        assert switch(text).trace(PING).ports == (5,)

    def test_one_flow_may_be_part_of_several(self):
        text = """
            priority=6,ip,nw_src=10.0.0.1 actions=conjunction(1,1/2),conjunction(2,1/2)
            priority=6,udp,tp_dst=53 actions=conjunction(2,2/2)
            priority=6,udp,tp_dst=54 actions=conjunction(1,2/2)
            priority=6,conj_id=1 actions=output:4
            priority=6,conj_id=2 actions=output:5
        """
        assert switch(text).trace(PING).ports == (5,)

    def test_two_complete_ones_of_one_priority_are_reported_as_open(self):
        text = """
            priority=6,ip,nw_src=10.0.0.1 actions=conjunction(1,1/2),conjunction(2,1/2)
            priority=6,udp actions=conjunction(1,2/2),conjunction(2,2/2)
            priority=6,conj_id=1 actions=output:4
        """
        assert switch(text).trace(PING).rivals == (None,)


class TestWay:
    def test_resubmit_comes_back_and_goto_does_not_copy_the_packet(self):
        trace = switch("""
            table=0 actions=resubmit(,1),output:4,goto_table:2
            table=1 actions=set_field:7->reg0,output:5
            table=2,reg0=7 actions=output:1
        """).trace(PING)
        assert trace.ports == (5, 4, 1)
        assert [step.table for step in trace.steps] == [0, 1, 2]
        assert trace.steps[2].packet[F.REG0] == 7

    def test_a_packet_without_a_flow_is_lost_where_that_was(self):
        trace = switch("table=0 actions=goto_table:conntrack").trace(PING)
        assert trace.dropped
        assert trace.losses[0].reason is Reason.NO_FLOW
        assert trace.losses[0].table is Table.CONNTRACK
        assert trace.verdict == "dropped in conntrack: no flow of the table matches"

    def test_nothing_leaves_by_the_port_it_came_in_by_unless_told_so(self):
        trace = switch("actions=output:3,IN_PORT").trace(PING)
        assert trace.ports == (3,)
        assert [loss.reason for loss in trace.losses] == [Reason.INPUT_PORT]

    def test_ports_that_do_not_exist(self):
        trace = switch("actions=output:77,set_field:0x10001->reg1,output:reg1").trace(PING)
        assert [loss.reason for loss in trace.losses] == [Reason.NO_PORT, Reason.NO_PORT]

    def test_a_register_may_name_a_reserved_port(self):
        text = "actions=set_field:0xfff8->reg1,output:reg1,set_field:0xffff->reg1,output:reg1"
        assert switch(text).trace(PING).ports == (3,)

    def test_what_is_not_modelled_is_an_error_and_no_guess(self):
        with pytest.raises(ValueError, match="NORMAL"):
            switch("actions=NORMAL").trace(PING)

    def test_the_last_hop_drops_and_ends_only_its_own_actions(self):
        text = """
            table=0,ip actions=resubmit(,1),output:4
            table=1,ip actions=dec_ttl,output:5
        """
        spent = switch(text).trace(udp("10.0.0.1", "10.0.0.2", 1, 2, ttl=1).on(3))
        assert spent.ports == (4,)
        assert spent.losses[0].reason is Reason.EXPIRED
        fresh = switch(text).trace(PING)
        assert fresh.ports == (5, 4)
        assert fresh.deliveries[0].packet[F.IP_TTL] == 63

    def test_a_loop_ends_and_has_no_effect(self):
        trace = switch("table=0 actions=output:4,resubmit(,0)").trace(PING)
        assert trace.dropped
        assert [loss.reason for loss in trace.losses] == [Reason.TOO_DEEP]

    def test_too_many_lookups_end_it_too(self):
        fans = "".join(
            f"table={n} actions={','.join([f'resubmit(,{n + 1})'] * 8)}\n" for n in range(5)
        )
        trace = switch(fans + "table=5 actions=output:4").trace(PING)
        assert [loss.reason for loss in trace.losses] == [Reason.TOO_MANY]
        assert trace.dropped

    def test_a_field_that_the_packet_lacks_is_not_written(self):
        trace = switch("actions=set_field:1.1.1.1->ip_src,output:4").trace(
            arp(1, "0a:58:00:00:00:01", "10.0.0.1", "10.0.0.2").on(3)
        )
        assert trace.deliveries[0].packet[F.IPV4_SRC] == 0

    def test_masked_writes_and_moves_touch_their_bits_only(self):
        trace = switch(
            "actions=set_field:0xff00->reg0,set_field:0x1/0x3->reg0,"
            "move:NXM_NX_REG0[8..15]->NXM_NX_REG1[4..11],output:4"
        ).trace(PING)
        left = trace.deliveries[0].packet
        assert (left[F.REG0], left[F.REG1]) == (0xFF01, 0xFF0)

    def test_a_first_fragment_matches_no_port(self):
        text = "priority=2,udp,tp_dst=53 actions=output:4\npriority=1,udp actions=output:5"
        first = PING.replace({F.IP_FRAG: 1})
        assert switch(text).trace(first).ports == (5,)

    def test_a_neighbour_solicitation_becomes_its_answer(self):
        text = """
            table=0,icmp6,icmp_type=135,icmp_code=0 actions=set_field:0a:58:00:00:00:09->nd_tll,set_field:136->icmpv6_type,resubmit(,1)
            table=1,icmp6,icmp_type=136,icmp_code=0 actions=set_field:0a:58:00:00:00:01->nd_tll,IN_PORT
        """  # noqa: E501
        asked = solicitation("fd00::2", "ff02::1:ff00:1", "fd00::1", "0a:58:00:00:00:02")
        out = switch(text).trace(asked.on(3)).deliveries[0]
        wanted = advertisement("fd00::2", "ff02::1:ff00:1", "fd00::1", "0a:58:00:00:00:01")
        for field in (F.ICMPV6_TYPE, F.ND_TARGET, F.ND_TLL):
            assert out.packet[field] == wanted[field]
        assert out.port == 3

    def test_a_tunnel_needs_an_end_and_never_leads_back_to_where_it_came_in(self):
        there = switch("actions=set_field:192.168.0.2->tun_dst,set_field:5->tun_id,output:2")
        out = there.trace(PING).deliveries[0]
        assert (out.port, out.packet[F.TUN_ID]) == (2, 5)
        assert switch("actions=output:2").trace(PING).losses[0].reason is Reason.NO_TUNNEL_END
        back = PING.through_tunnel(2, 1, "192.168.0.3", "192.168.0.2")
        assert switch("actions=IN_PORT").trace(back).losses[0].reason is Reason.NO_TUNNEL_END


class TestGroups:
    def test_each_bucket_of_all_works_on_a_packet_of_its_own(self):
        groups = {9: group(GroupKind.ALL, "set_field:7->reg0,output:4", "output:5")}
        trace = switch("actions=group:9,output:1", groups=groups).trace(PING)
        assert [(out.port, out.packet[F.REG0]) for out in trace.deliveries] == [
            *((4, 7), (5, 0), (1, 0)),
        ]

    def test_select_takes_one_and_every_choice_can_be_had(self):
        groups = {
            1: group(GroupKind.SELECT, "set_field:1->reg0,resubmit(,1)", "output:4"),
            2: group(GroupKind.SELECT, "output:4", "output:5", "output:1"),
        }
        made = switch("table=0 actions=group:1\ntable=1 actions=group:2", groups=groups)
        assert made.trace(PING).ports == (4,)
        assert made.trace(PING, choices=(0, 2)).ports == (1,)
        found = sorted((t.ports, tuple(c.bucket for c in t.choices)) for t in made.traces(PING))
        assert found == [((1,), (0, 2)), ((4,), (0, 0)), ((4,), (1,)), ((5,), (0, 1))]

    def test_a_packet_that_has_a_hash_goes_by_it_and_so_do_groups_one_after_the_other(self):
        outer = SelectGroup(8, 1, tuple(_bucket(f"set_field:{n}->reg0,group:9") for n in range(32)))
        inner = SelectGroup(9, 2, tuple(_bucket(f"set_field:{n}->reg1,output:4") for n in range(3)))
        made = switch("actions=group:8", groups=selecting((outer, inner)))
        for dp_hash in (0x12345678, 0xFFFFFFFF, 0x20):
            trace = made.trace(PING.replace({F.DP_HASH: dp_hash}))
            out = trace.deliveries[0].packet
            assert (out[F.REG0], out[F.REG1]) == (dp_hash & 31, (dp_hash & 15) % 3)
            assert [c[1:] for c in trace.choices] == [(out[F.REG0], 32), (out[F.REG1], 3)]
        assert made.trace(PING).choices == ((8, 0, 32), (9, 0, 3))

    def test_an_action_that_reads_the_hash_makes_a_choice_too(self):
        groups = selecting([SelectGroup(8, 1, (_bucket("resubmit(,1)"),))])
        text = "table=0 actions=group:8\ntable=1 actions=move:dp_hash[4..7]->reg2[0..3],output:4"
        made = switch(text, groups=groups)
        assert {trace.deliveries[0].packet[F.REG2] for trace in made.traces(PING)} == {*range(16)}
        assert made.trace(PING, choices=(5,)).choices == ((0, 5, 16),)
        given = made.trace(PING.replace({F.DP_HASH: 0xAB}))
        assert given.deliveries[0].packet[F.REG2] == 0xA
        unhashed = switch("actions=move:dp_hash[4..7]->reg2[0..3],output:4").trace(PING)
        assert (unhashed.deliveries[0].packet[F.REG2], unhashed.choices) == (0, ())

    def test_a_switch_has_the_groups_of_all_switches_unless_others_are_given(self):
        for group in GROUPS:
            made = switch(f"actions=group:{group.id}")
            assert made.groups[group.id].buckets == group.buckets
            assert made.groups[group.id].kind is GroupKind.SELECT

    def test_a_group_that_is_not_there_drops(self):
        assert switch("actions=group:77").trace(PING).losses[0].reason is Reason.NO_GROUP


LEARN = (
    "learn(table=affinity,idle_timeout=60,priority=7,limit=2,cookie=0x5,eth_type=0x800,reg4=0x1,"
    "NXM_OF_IP_SRC[],load:0x3->NXM_NX_REG8[0..15])"
)
LEARNING = f"""
    table=classify,udp actions=resubmit(,1),{LEARN},resubmit(,affinity),output:reg8
    table=1 actions=set_field:10.0.0.9->ip_src,set_field:1->reg4
    table=affinity,priority=0 actions=set_field:4->reg8
"""


class TestLearning:
    def test_what_is_learnt_has_the_packets_values_at_that_time(self):
        trace = switch(LEARNING).trace(PING)
        (learnt,) = trace.learnt
        assert print_flow(learnt) == (
            "cookie=0x5, table=affinity, priority=7,ip,reg4=0x1,nw_src=10.0.0.9 "
            "actions=set_field:0x3/0xffff->reg8"
        )

    def test_it_is_for_later_packets(self):
        made = switch(LEARNING)
        first = made.trace(PING)
        assert first.ports == (4,)
        later = made.having(first.learnt)
        assert later.trace(PING.on(5)).ports == (3,)
        assert made.trace(PING.on(5)).ports == (4,)
        assert made.having(()) is made

    def test_it_is_for_later_passes_of_the_same_packet(self):
        text = (
            LEARNING.replace("output:reg8", "ct(table=2)")
            + """
            table=2 actions=set_field:1->reg4,resubmit(,affinity),output:reg8
        """
        )
        assert switch(text).trace(PING.on(5)).ports == (3,)

    def test_a_full_table_learns_nothing_more_not_even_what_it_knows(self):
        present = """
            table=affinity,priority=7,cookie=0x5,ip,nw_src=10.0.0.9,reg4=1 actions=set_field:9->reg8
            table=affinity,priority=7,cookie=%s,ip,nw_src=10.0.0.8,reg4=1 actions=set_field:9->reg8
        """
        assert not switch(LEARNING + present % "0x5").trace(PING).learnt
        (learnt,) = switch(LEARNING + present % "0x6").trace(PING).learnt
        replaced = switch(LEARNING + present % "0x6").having([learnt])
        assert learnt in replaced.tables[Table.AFFINITY].flows
        assert len(replaced.tables[Table.AFFINITY].flows) == 3

    def test_a_packet_that_learns_twice_counts_what_it_has_learnt(self):
        text = """
            table=0 actions=%s
            table=1,reg1=%s actions=drop
        """
        learn = "set_field:{0}->reg1,learn(table=5,limit=2,NXM_NX_REG1[],load:1->reg0)"
        twice = ",".join(learn.format(n) for n in (1, 2, 3, 2))
        trace = switch(text % (twice, 1)).trace(PING)
        assert [flow.match[0].value for flow in trace.learnt] == [1, 2]


def test_addresses_of_two_families_make_no_packet():
    with pytest.raises(ValueError, match="one family"):
        udp("10.0.0.1", "fd00::1", 1, 2)


def test_a_value_that_does_not_fit_its_field_is_refused():
    with pytest.raises(ValueError, match="expected 8 bits"):
        PING.replace({F.IP_TTL: 256})
