"""What was cached a moment before a change is put right by the time that is reported, too.

A round of the revalidators that has to take much out of the cache leaves some of what is new there,
and one that has to change an entry may change another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import datapath
import pytest
from cached_flows import RECEIVER, Switch, running
from places import wait_for

from ovsnet.cni.revalidation import Commands, Revalidation, connected

FORBIDDEN = "table=0,priority=60,udp,tp_dst=9"
"""What `Switch.fill` sends. It makes all that is cached of that too coarse."""


@pytest.fixture(scope="module")
def switch() -> Iterator[Switch]:
    with running() as found:
        yield found


def left_of_new_flows(switch: Switch, number: int, finish: Callable[[Revalidation], None]) -> int:
    """How many of so many new cached flows still send, once `finish` says that none does."""
    with connected(switch.ovs.rundir) as cache:
        switch.bundle(f"delete_strict {FORBIDDEN}")
        cache.finish()
        switch.fill(number)
        wait_for(
            lambda: sending(switch) >= number,
            lambda: f"{number} cached flows to {RECEIVER}; there are {sending(switch)}",
        )
        switch.bundle(f"add {FORBIDDEN},actions=drop")
        finish(cache)
        return sending(switch)


def sending(switch: Switch) -> int:
    """How many cached flows of UDP send. Only userspace shows ports with all bits of a packet's."""
    lines = switch.ovs.appctl("dpctl/dump-flows").splitlines()
    return sum("udp(" in line and "actions:drop" not in line for line in lines)


_FLOW = "in_port(1),recirc_id(0),packet_type(ns=0,id=0),eth_type(0x0800),ipv4({},frag=no)"
WIDE = _FLOW.format("dst=10.0.0.0/255.255.255.0")
NARROW = _FLOW.format("src=1.1.1.1,dst=10.0.0.5")
EARLIER = _FLOW.format("dst=10.9.0.0/255.255.255.0")


def test_a_changed_entry_may_be_another_one(switch: Switch) -> None:
    """Why the cache is thrown away. Should Open vSwitch learn better, rounds may do again."""
    command = switch.ovs.appctl
    command("dpctl/add-dp", "netdev@other")
    try:
        for flow, port in ((EARLIER, "4"), (NARROW, "5"), (WIDE, "6")):
            command("dpctl/add-flow", "netdev@other", flow, port)
        command("dpctl/mod-flow", "netdev@other", NARROW, "9")
        cached = command("dpctl/dump-flows", "netdev@other").splitlines()
    finally:
        command("dpctl/del-dp", "netdev@other")
    (narrow,) = (line for line in cached if "src=1.1.1.1" in line)
    assert narrow.endswith("actions:5")
    assert any("dst=10.0.0.0" in line and line.endswith("actions:9") for line in cached)


@pytest.mark.parametrize("number", [100, 300, 1500, 5000])
def test_new_flows_are_put_right(switch: Switch, number: int) -> None:
    for _ in range(5):
        assert left_of_new_flows(switch, number, Revalidation.finish) == 0


@pytest.mark.skipif(not datapath.USERSPACE, reason="rounds are enough with the kernel's datapath")
def test_one_round_leaves_some(switch: Switch) -> None:
    """What the test above sees if the agent waits for one round, as it well might."""

    def one_round(cache: Revalidation) -> None:
        cache._control = WithoutPurge(cache._control)
        cache.finish()

    assert sum(left_of_new_flows(switch, 300, one_round) > 0 for _ in range(10)) > 2


class WithoutPurge:
    """Hands on every command but the one that empties the cache."""

    def __init__(self, control: Commands) -> None:
        self._real = control

    def ask(self, command: str, *arguments: str) -> str:
        return "" if command == "revalidator/purge" else self._real.ask(command, *arguments)

    def ask_all(self, commands: Sequence[tuple[str, ...]]) -> list[str]:
        return self._real.ask_all(commands)
