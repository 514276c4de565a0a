"""UDP clients of an endpoint that is gone get another one at once; all other connections stay."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from places import wait_for
from served import FIRST_PORT, SERVICE, TCP_PORT, Served, served
from streams import tcp_conversation

from ovsnet import names
from ovsnet.cni.servedudp import parse

EVEN, ODD = 1000, 1001


@pytest.fixture(scope="module")
def scene() -> Iterator[Served]:
    with served() as found:
        yield found


@pytest.fixture(autouse=True)
def anew(scene: Served) -> None:
    """All flows, and no connection."""
    scene.write()
    scene.node.ovs.appctl("dpctl/flush-conntrack")


def stays(scene: Served) -> set[str]:
    """What is tracked but the UDP connections of the endpoint that is to go."""
    gone = {c.source_port for v in (4, 6) for c in scene.udp(scene.even, v)}
    return {line for line in scene.tracked() if not {c.source_port for c in parse([line])} & gone}


@pytest.mark.parametrize("version", [4, 6])
def test_a_client_that_goes_on_sending_reaches_the_other_endpoint(
    scene: Served, version: int
) -> None:
    talk = tcp_conversation(
        scene.client.place,
        scene.even.place,
        version,
        TCP_PORT,
        server_sends=False,
        called=SERVICE[version],
        source_port=EVEN,
    )
    with talk as conversation:
        with scene.sending(version, EVEN) as moves:
            wait_for(lambda: moves.last(20) == {scene.even}, "packets at the first endpoint")
            scene.connect(0, odd=3)
            before = stays(scene)
            assert len(before) == 4
            scene.remove_even(version)
            wait_for(lambda: moves.last(200) == {scene.odd}, "packets at the other endpoint")
        assert len(moves.arrived) == moves.sent, "none is lost over it"
        assert before <= set(scene.tracked())
        octets = conversation.octets
        wait_for(lambda: conversation.octets > octets + 1000, "the conversation to go on")


def test_thousands_of_connections_end_and_those_of_others_do_not(scene: Served) -> None:
    scene.connect(5000, odd=500)
    before = stays(scene)
    assert len(before) == 500
    scene.remove_even(4)
    scene.expect_none(scene.even)
    assert before == set(scene.tracked())


def test_connections_that_begin_while_the_switch_changes_end_too(scene: Served) -> None:
    """Packets that are dealt with as before, for a moment after the flows have changed."""
    scene.fill_cache(15_000)
    with scene.newcomers():
        wait_for(lambda: len(scene.udp(scene.even)) > 200, "newcomers")
        scene.remove_even(4)
        wait_for(lambda: len(scene.udp(scene.odd)) > 200, "newcomers at the other endpoint")
    scene.expect_none(scene.even)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_an_agent_that_was_away_ends_what_it_finds(scene: Served, number: int) -> None:
    scene.connect(50, odd=50)
    before = stays(scene)
    scene.node.stop_agent(number)
    scene.remove_even(4)
    assert len(scene.udp(scene.even)) == 50
    scene.node.start_agent()
    scene.expect_none(scene.even)
    assert before == set(scene.tracked())


def test_an_agent_that_is_killed_over_it_goes_on_when_it_is_back(scene: Served) -> None:
    scene.connect(5000, odd=50)
    before = stays(scene)
    scene.remove_even(4)
    wait_for(lambda: len(scene.udp(scene.even)) < 5000, "it to begin")
    scene.node.stop_agent(signal.SIGKILL)
    scene.node.start_agent()
    scene.expect_none(scene.even)
    assert before == set(scene.tracked())


def test_after_a_restart_of_the_switch(scene: Served) -> None:
    scene.restart_switch()
    scene.connect(50, odd=50)
    before = stays(scene)
    scene.remove_even(4)
    scene.expect_none(scene.even)
    assert before == set(scene.tracked())


def test_flows_that_are_all_removed_and_written_anew_end_nothing(scene: Served) -> None:
    scene.connect(50, odd=50)
    before = set(scene.tracked())
    for _ in range(10):
        scene.node.ovs.ofctl("del-flows", names.BRIDGE)
        # Time enough for an agent that would do something about it.
        for _ in range(20):
            assert before == set(scene.tracked())
        scene.write()
    scene.remove_even(4)
    scene.expect_none(scene.even)
    assert {c.source_port for c in parse(scene.tracked())} == {
        FIRST_PORT + 2 * n + 1 for n in range(50)
    }


def test_an_endpoint_that_comes_ends_nothing(scene: Served) -> None:
    """Nor one that goes and comes back in one bundle."""
    scene.remove_even(4)
    scene.connect(50, odd=50)
    before = set(scene.tracked())
    scene.write()
    again = list(scene.balance(4, "udp", 53, None))
    deleted = [flow.split(" actions")[0].replace("add", "delete_strict") for flow in again]
    for _ in range(10):
        scene.bundles.send(*deleted, *again)
    scene.connect(60, odd=60)
    assert before <= set(scene.tracked())
