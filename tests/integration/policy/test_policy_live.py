"""Live connections and changing policies: what is forbidden ends both ways once that is settled,
what stays allowed is never interrupted.
"""

from __future__ import annotations

import contextlib
import time

import pytest
from in_effect import expect_settled
from places import Place, wait_for
from policy_objects import peer, policy, port, rule
from streams import Conversation, Stream, tcp_conversation, udp_socket, udp_stream
from town import Town

from ovsnet.model import NetworkPolicy, Protocol

UDP = Protocol.UDP
CALLER = "shop/web"
CALLED = ("shop/db", "shop/far")
WAYS = [(called, version) for called in CALLED for version in (4, 6)]
QUIET_SECONDS = 0.7
"""How long nothing may come; a packet comes every few ms where one may."""

CHANGES = 200
LONG = b"fragment" * 400

NO_INGRESS = policy("shop/p", ingress=[])
ONLY_STRANGERS = policy("shop/p", ingress=[rule([peer(None, "team=b")])])
NO_EGRESS = policy("shop/p", "tier=front", egress=[])
ONLY_OTHER_PORTS = policy(
    "shop/p", "tier=front", egress=[rule(None, [port(1), port(1, protocol=UDP)])]
)
FORBIDDING = {
    "no ingress": NO_INGRESS,
    "ingress from others": ONLY_STRANGERS,
    "no egress": NO_EGRESS,
    "egress to other ports": ONLY_OTHER_PORTS,
}


def flows_on(stream: Stream) -> bool:
    now = time.monotonic()
    return bool(stream.arrived_of_those_sent_after(now - QUIET_SECONDS))


@pytest.mark.parametrize("forbidding", FORBIDDING.values(), ids=FORBIDDING)
@pytest.mark.parametrize(("called", "version"), WAYS)
def test_answers_stop_with_the_connection_that_they_belong_to(
    town: Town, called: str, version: int, forbidding: NetworkPolicy
) -> None:
    """A UDP exchange in which, after the first packet, the called end alone sends."""
    ends = town.pods[CALLER], town.pods[called]
    client, server = udp_socket(ends[0], version), udp_socket(ends[1], version, 7000)
    with client, server:
        client.sendto(b"hello", (ends[1].address(version), 7000))
        _, caller = server.recvfrom(64)
        with udp_stream(server, caller[:2], client, 0.003) as stream:
            wait_for(lambda: flows_on(stream), "the answers to come")
            town.enforce(forbidding)
            settled = time.monotonic()
            time.sleep(QUIET_SECONDS)
            assert stream.sent_between(settled, time.monotonic()) > 20
            assert stream.arrived_of_those_sent_after(settled) == []
            town.enforce()
            wait_for(lambda: flows_on(stream), "the answers to come again")


@pytest.mark.parametrize("server_sends", [True, False], ids=["server sends", "client sends"])
@pytest.mark.parametrize("forbidding", FORBIDDING.values(), ids=FORBIDDING)
@pytest.mark.parametrize(("called", "version"), [(CALLED[0], 4), (CALLED[1], 6)])
def test_a_tcp_connection_stops_and_goes_on_when_it_may_again(
    town: Town, called: str, version: int, forbidding: NetworkPolicy, server_sends: bool
) -> None:
    ends = town.pods[CALLER], town.pods[called]
    with tcp_conversation(*ends, version, 7001, server_sends=server_sends) as conversation:
        wait_for(lambda: conversation.octets, "octets to come")
        town.enforce(forbidding)
        settled = time.monotonic()
        # What was queued in the receiving kernel before is read at once.
        time.sleep(0.05)
        had = conversation.octets
        time.sleep(QUIET_SECONDS)
        assert conversation.octets == had, f"{conversation.last - settled} s after it was settled"
        town.enforce()
        wait_for(lambda: went_on(conversation, had), "the same connection to go on", 30)


def went_on(conversation: Conversation, had: int) -> bool:
    return conversation.octets > had + 100


@pytest.mark.parametrize(("called", "version"), WAYS)
def test_a_datagram_in_fragments_is_judged_by_its_port(
    town: Town, called: str, version: int
) -> None:
    """The userspace datapath does not know it, and lets pass what all ports are open to alone."""
    ends = town.pods[CALLER], town.pods[called]
    whole = not town.lab.state.userspace
    only = policy("shop/p", "has app", ingress=[rule(None, [port(7100, protocol=UDP)])])
    everything = policy("shop/p", "has app", ingress=[rule()])
    for enforced, open_to in ((only, {7100} if whole else set()), (everything, {7100, 7102})):
        town.enforce(enforced)
        for number in (7102, 7100):
            came = in_fragments(ends[0], ends[1], version, number)
            assert came is (number in open_to), number


def in_fragments(caller: Place, called: Place, version: int, number: int) -> bool:
    """Whether a datagram arrives that no way here carries whole."""
    client, server = udp_socket(caller, version), udp_socket(called, version, number)
    with client, server:
        server.settimeout(QUIET_SECONDS)
        client.sendto(LONG, (called.address(version), number))
        try:
            return server.recv(65535) == LONG
        except TimeoutError:
            return False


def test_policies_that_change_without_end_let_pass_what_all_of_them_allow_and_nothing_else(
    town: Town,
) -> None:
    """Under streams, policies are added, changed and removed; the controller is killed in between.

    Port 7100 is allowed at every moment, port 7102 at none, whatever of these is in force.
    """
    base = policy("shop/base", "has app", ingress=[rule(None, [port(7100, protocol=UDP)])])
    variants = [
        policy("shop/more", "has app", ingress=[rule(None, [port(7100, 7101, UDP)])]),
        policy(
            "shop/more", "has app", ingress=[rule([peer("app=web")], [port(7101, protocol=UDP)])]
        ),
        policy("shop/more", "app=web", ingress=[]),
    ]
    town.enforce(base)
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        kept, barred = [], []
        for called, version in WAYS:
            for number, streams in ((7100, kept), (7102, barred)):
                server = stack.enter_context(udp_socket(town.pods[called], version, number))
                client = stack.enter_context(udp_socket(town.pods[CALLER], version))
                target = (town.pods[called].address(version), number)
                streams.append(stack.enter_context(udp_stream(client, target, server, 0.005)))
        wait_for(lambda: all(map(flows_on, kept)), "the allowed streams to flow")
        began = time.monotonic()
        for change in range(CHANGES):
            if change % 4 == 3:
                town.remove(variants[0].ref)
            else:
                town.write(variants[change % 4])
            if change == CHANGES // 2:
                town.lab.kill("controller")
            if change == CHANGES // 2 + 8:
                town.lab.start("controller")
        expect_settled(town.lab, 60)
        ended = time.monotonic()
        time.sleep(QUIET_SECONDS)
    assert all(stream.sent_between(began, ended) > 200 for stream in kept)
    assert [stream.lost_between(began, ended) for stream in kept] == [[]] * len(kept)
    assert [sorted(stream.arrived) for stream in barred] == [[]] * len(barred)
