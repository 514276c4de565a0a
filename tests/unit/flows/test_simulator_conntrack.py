"""The simulator's own rules, without a switch: the connection tracker, and what it translates."""

from __future__ import annotations

import pytest
from written_switch import PING, switch

from ovsnet.flows.fields import CtState, Field
from ovsnet.flows.flow import Ct
from ovsnet.flows.simulator import (
    Connections,
    Foreseen,
    Packet,
    Reason,
    echo,
    icmp,
    tcp,
    udp,
)
from ovsnet.flows.simulator.conntrack import Written
from ovsnet.flows.simulator.packet import ACK, SYN
from ovsnet.names import Table

F = Field
NEW, EST, REL, RPL = CtState.NEW, CtState.EST, CtState.REL, CtState.RPL
INV, TRK = CtState.INV, CtState.TRK
FIREWALL = """
    table=0,ip actions=ct(table=1,zone=5)
    table=0,ipv6 actions=ct(table=1,zone=5)
    table=1,priority=2,ct_state=+trk+inv actions=drop
    table=1,priority=1,ct_state=+new,ip,in_port=3 actions=ct(commit,zone=5,exec(set_field:0x7->ct_mark)),output:4
    table=1,priority=1,ct_state=+new,ipv6,in_port=3 actions=ct(commit,zone=5),output:4
    table=1,priority=1,ct_state=-new+trk actions=output:1
"""  # noqa: E501


class TestConnections:
    def states(self, *sent: Packet) -> list[int]:
        """What the tracker says of each packet in turn, behind a firewall for port 3."""
        made, tracker, said = switch(FIREWALL), Connections(), []
        for packet in sent:
            trace = made.trace(packet, tracker)
            tracker = trace.tracker
            said.append(trace.passes[1].before[F.CT_STATE] & ~TRK)
        return said

    def test_a_connection_is_established_once_it_was_answered(self):
        there = udp("10.0.0.1", "10.0.0.2", 1000, 53).on(3)
        back = udp("10.0.0.2", "10.0.0.1", 53, 1000).on(4)
        assert self.states(there, there, back, there, back) == [NEW, NEW, EST | RPL, EST, EST | RPL]

    def test_what_nobody_committed_stays_new(self):
        assert self.states(PING.on(4), PING.on(4), PING.on(3), PING.on(4)) == [NEW] * 4

    def test_tcp_and_tcp_over_ipv6(self):
        there = tcp("fd00::1", "fd00::2", 1000, 80).on(3)
        answer = tcp("fd00::2", "fd00::1", 80, 1000, flags=SYN | ACK).on(4)
        assert self.states(answer, there, there, answer) == [INV, NEW, NEW, EST | RPL]

    @pytest.mark.parametrize("flags", [0, 0x03, 0x06, 0x01, 0x08, 0x20])
    def test_flags_that_contradict_each_other_are_invalid(self, flags):
        assert self.states(tcp("10.0.0.1", "10.0.0.2", 1, 2, flags=flags).on(3)) == [INV]

    def test_only_questions_begin_a_conversation_in_icmp(self):
        there, back = echo("10.0.0.1", "10.0.0.2").on(3), echo("10.0.0.2", "10.0.0.1", reply=True)
        assert self.states(back.on(4), there, back.on(4)) == [INV, NEW, EST | RPL]
        assert self.states(icmp("fd00::1", "fd00::2", 129).on(3)) == [INV]

    def test_an_error_is_related_to_the_connection_that_it_quotes(self):
        unreachable = icmp("10.0.9.9", "10.0.0.1", 3, 3, quoted=PING).on(4)
        stranger = icmp("10.0.9.9", "10.0.0.1", 3, 3, quoted=PING.replace({F.UDP_SRC: 9})).on(4)
        assert self.states(unreachable, PING, unreachable, stranger) == [INV, NEW, REL | RPL, INV]

    def test_zones_are_apart(self):
        made = switch("""
            table=0,ip,in_port=3 actions=ct(commit,table=1,zone=5)
            table=0,ip,in_port=4 actions=ct(table=1,zone=6)
            table=1 actions=drop
        """)
        tracker = made.trace(PING).tracker
        back = made.trace(udp("10.0.0.2", "10.0.0.1", 53, 1000).on(4), tracker)
        assert back.passes[1].before[F.CT_STATE] == TRK | NEW
        assert back.passes[1].before[F.CT_ZONE] == 6

    def test_marks_stay_with_the_connection_and_say_which_it_is(self):
        made = switch(FIREWALL)
        tracker = made.trace(PING).tracker
        back = made.trace(udp("10.0.0.2", "10.0.0.1", 53, 1000).on(4), tracker).passes[1].before
        assert back[F.CT_MARK] == 7
        assert (back[F.CT_NW_SRC], back[F.CT_TP_SRC]) == (PING[F.IPV4_SRC], 1000)

    def test_after_ct_the_rest_of_the_actions_sees_an_untracked_packet(self):
        trace = switch("table=0,ip actions=ct(commit,table=1),goto_table:2\ntable=2 actions=drop")
        rest = trace.trace(PING.replace({F.CT_MARK: 5})).steps[1].packet
        assert rest[F.CT_STATE] == rest[F.CT_MARK] == 0

    def test_fragments_wait_for_reassembly(self):
        trace = switch(FIREWALL).trace(PING.replace({F.IP_FRAG: 1}))
        assert trace.losses[0].reason is Reason.TRACKER

    def test_flushed_connections_are_forgotten(self):
        made = switch(FIREWALL)
        tracker = made.trace(PING).tracker
        assert len(tracker.all) == 1
        assert not tracker.without(lambda c: c.zone == 5).all

    def test_force_turns_a_connection_round(self):
        text = "table=0,ip actions=ct(commit,%stable=1)\ntable=1 actions=drop"
        back = udp("10.0.0.2", "10.0.0.1", 53, 1000).on(4)
        for force, state in (("", EST | RPL), ("force,", NEW)):
            tracker = switch(text % "").trace(PING).tracker
            trace = switch(text % force).trace(back, tracker)
            assert trace.passes[1].before[F.CT_STATE] == TRK | state


SERVICE = """
    table=0,ip actions=ct(table=1,nat)
    table=1,priority=2,tcp,ct_state=+new,nw_dst=10.96.0.1 actions=ct(commit,table=2,nat(dst=10.0.0.2:8080))
    table=1,priority=2,tcp,ct_state=+new,nw_dst=10.0.0.9 actions=ct(commit,table=2,nat(src=192.168.0.1))
    table=1,priority=1 actions=goto_table:2
    table=2 actions=output:4
"""  # noqa: E501


class TestNat:
    def ends(self, packet: Packet) -> tuple[int, int, int, int]:
        return tuple(packet[f] for f in (F.IPV4_SRC, F.TCP_SRC, F.IPV4_DST, F.TCP_DST))

    def test_destination_nat_and_back(self):
        made = switch(SERVICE)
        first = made.trace(tcp("10.0.0.1", "10.96.0.1", 1000, 80).on(3))
        assert self.ends(first.deliveries[0].packet) == (0x0A000001, 1000, 0x0A000002, 8080)
        assert first.passes[2].before[F.CT_STATE] == TRK | NEW | CtState.DNAT
        back = tcp("10.0.0.2", "10.0.0.1", 8080, 1000, flags=SYN | ACK).on(5)
        answer = made.trace(back, first.tracker)
        assert self.ends(answer.deliveries[0].packet) == (0x0A600001, 80, 0x0A000001, 1000)
        assert answer.passes[1].before[F.CT_STATE] == TRK | EST | RPL | CtState.SNAT
        again = made.trace(tcp("10.0.0.1", "10.96.0.1", 1000, 80, flags=ACK).on(3), answer.tracker)
        assert self.ends(again.deliveries[0].packet) == (0x0A000001, 1000, 0x0A000002, 8080)
        assert again.passes[1].before[F.CT_STATE] == TRK | EST | CtState.DNAT

    def test_errors_about_translated_connections_and_what_they_quote(self):
        made = switch(SERVICE)
        asked = tcp("10.0.0.1", "10.96.0.1", 1000, 80).on(3)
        first = made.trace(asked)
        seen = first.deliveries[0].packet
        # Somebody between the client and the endpoint may send an error, too.
        error = icmp("10.0.0.77", "10.0.0.1", 3, 4, quoted=seen).on(5)
        out = made.trace(error, first.tracker).deliveries[0].packet
        assert (out[F.IPV4_SRC], out[F.IPV4_DST]) == (0x0A600001, 0x0A000001)
        assert self.ends(out.quoted) == self.ends(asked)
        answer = tcp("10.0.0.2", "10.0.0.1", 8080, 1000, flags=SYN | ACK).on(5)
        back = made.trace(answer, first.tracker)
        error = icmp("10.0.0.66", "10.96.0.1", 3, 4, quoted=back.deliveries[0].packet).on(3)
        out = made.trace(error, back.tracker).deliveries[0].packet
        assert (out[F.IPV4_SRC], out[F.IPV4_DST]) == (0x0A000042, 0x0A000002)
        assert self.ends(out.quoted) == self.ends(answer)

    def test_source_nat_finds_another_port_where_its_own_is_taken(self):
        made = switch(SERVICE)
        first = made.trace(tcp("10.0.0.1", "10.0.0.9", 5000, 80).on(3))
        second = made.trace(tcp("10.0.0.3", "10.0.0.9", 5000, 80).on(3), first.tracker)
        assert self.ends(first.deliveries[0].packet) == (0xC0A80001, 5000, 0x0A000009, 80)
        assert self.ends(second.deliveries[0].packet) == (0xC0A80001, 5001, 0x0A000009, 80)
        back = made.trace(
            tcp("10.0.0.9", "192.168.0.1", 80, 5001, flags=SYN | ACK).on(5), second.tracker
        )
        assert self.ends(back.deliveries[0].packet) == (0x0A000009, 80, 0x0A000003, 5000)

    def test_destination_nat_finds_another_source_port_where_the_connection_is_there(self):
        made = switch(SERVICE.replace("nw_dst=10.96.0.1", "nw_dst=10.96.0.0/24"))
        one = made.trace(tcp("10.0.0.1", "10.96.0.1", 1000, 80).on(3))
        two = made.trace(tcp("10.0.0.1", "10.96.0.2", 1000, 80).on(3), one.tracker)
        assert self.ends(one.deliveries[0].packet) == (0x0A000001, 1000, 0x0A000002, 8080)
        assert self.ends(two.deliveries[0].packet) == (0x0A000001, 1001, 0x0A000002, 8080)
        back = tcp("10.0.0.2", "10.0.0.1", 8080, 1001, flags=SYN | ACK).on(5)
        answer = made.trace(back, two.tracker)
        assert self.ends(answer.deliveries[0].packet) == (0x0A600002, 80, 0x0A000001, 1000)

    def test_a_foreseen_tracker_says_what_it_is_told_and_then_new(self):
        tracker = Foreseen((TRK | EST,))
        for state in (TRK | EST, TRK | NEW):
            packet, tracker = tracker.track(PING, Ct(3, Table.ROUTE), Written(), Written())
            assert (packet[F.CT_STATE], packet[F.CT_ZONE]) == (state, 3)
