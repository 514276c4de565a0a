"""A program of the node whose client a service has kept: its answers go back through the switch."""

from __future__ import annotations

import secrets
import socket

import frames
import pytest
from host_side import (
    CLIENT,
    FARAWAY,
    LISTENING,
    OWN,
    POD,
    HostSide,
    connected,
    ends_of,
    packet,
    says_unreachable,
    tcp_program,
    udp_program,
)

from ovsnet.names import ROUTER_MAC

VERSIONS = (4, 6)
CLIENTS = pytest.mark.parametrize("client", [FARAWAY, CLIENT, POD], ids=["far", "near", "pod"])


def answer_one(listening: socket.socket, asked: bytes) -> None:
    data, asker = listening.recvfrom(100)
    assert data == asked
    listening.sendto(b"answer", asker)


def a_port() -> int:
    return 10000 + secrets.randbelow(9000)


@CLIENTS
@pytest.mark.parametrize("version", VERSIONS)
def test_a_datagram_is_answered_through_the_switch(
    side: HostSide, version: int, client: dict
) -> None:
    asked = ends_of("udp", client[version], a_port(), OWN[version], LISTENING)
    with udp_program(side, OWN[version]) as listening:
        for _ in range(2):
            side.forget()
            side.hand_in(ROUTER_MAC, packet(asked, b"question"))
            answer_one(listening, b"question")
            seen = side.wait_for_ends(asked.reversed)
            assert seen.frame[:6] == frames.mac(ROUTER_MAC)


@CLIENTS
@pytest.mark.parametrize("version", VERSIONS)
def test_a_connection_is_answered_through_the_switch(
    side: HostSide, version: int, client: dict
) -> None:
    asked = ends_of("tcp", client[version], a_port(), OWN[version], LISTENING)
    with tcp_program(side, OWN[version]):
        side.hand_in(ROUTER_MAC, packet(asked))
        seen = side.wait_for_ends(asked.reversed)
        assert seen.flags == frames.SYN | frames.ACK
        side.hand_in(ROUTER_MAC, packet(asked, flags=frames.RST))


@CLIENTS
@pytest.mark.parametrize("version", VERSIONS)
def test_so_is_one_for_which_there_is_no_program(
    side: HostSide, version: int, client: dict
) -> None:
    asked = ends_of("tcp", client[version], a_port(), OWN[version], LISTENING)
    side.hand_in(ROUTER_MAC, packet(asked))
    assert side.wait_for_ends(asked.reversed).flags & frames.RST
    datagram = ends_of("udp", client[version], a_port(), OWN[version], LISTENING)
    side.hand_in(ROUTER_MAC, packet(datagram, b"?"))
    side.wait(lambda s: says_unreachable(s, datagram), "ICMP")


@pytest.mark.parametrize("version", VERSIONS)
def test_others_are_answered_as_ever(side: HostSide, version: int) -> None:
    with (
        udp_program(side, OWN[version]) as listening,
        connected(side.client, OWN[version], LISTENING) as asking,
    ):
        asking.send(b"question")
        answer_one(listening, b"question")
        assert asking.recv(100) == b"answer"
        assert side.sent_to(asking.getsockname()[1]) == []


@pytest.mark.parametrize("version", VERSIONS)
def test_who_comes_now_this_way_and_now_that(side: HostSide, version: int) -> None:
    """A client that calls the program and the service from the same port has one entry."""
    with (
        udp_program(side, OWN[version]) as listening,
        connected(side.client, OWN[version], LISTENING, a_port()) as asking,
    ):
        port = asking.getsockname()[1]
        by_service = ends_of("udp", CLIENT[version], port, OWN[version], LISTENING)
        for _ in range(2):
            asking.send(b"directly")
            answer_one(listening, b"directly")
            assert asking.recv(100) == b"answer"
            assert side.sent_to(port) == []
            side.hand_in(ROUTER_MAC, packet(by_service, b"by the service"))
            answer_one(listening, b"by the service")
            side.wait_for_ends(by_service.reversed)
            side.forget()


@pytest.mark.parametrize("version", VERSIONS)
def test_what_the_node_itself_has_asked_is_no_question_to_it(side: HostSide, version: int) -> None:
    """Answers come in by the gateway's port as well; more questions go where they went before."""
    with connected(side.here, FARAWAY[version], 9) as asking:
        asking.send(b"one")
        own = asking.getsockname()[1]
        reply = ends_of("udp", FARAWAY[version], 9, OWN[version], own)
        side.hand_in(ROUTER_MAC, packet(reply, b"two"))
        assert asking.recv(100) == b"two"
        asking.send(b"three")
        with connected(side.here, CLIENT[version], 9) as other:
            other.send(b"four")
        assert side.sent_to(9) == []
