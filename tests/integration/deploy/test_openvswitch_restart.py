"""A switch whose programs are started anew has its flows again, whoever else is there."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from openflow_harness import BRIDGE, Brain, Wanted, add_bridge
from own_openvswitch import Program
from served_pipeline import served_flows
from session_flows import NODE, OURS, assert_right, present

from ovsnet.cni import flowsave
from ovsnet.cni.flowsave import Saved
from ovsnet.cni.openvswitch import SAVED
from ovsnet.controller.notices import Acknowledged, Compared, Synchronised
from ovsnet.flows.fields import Field
from ovsnet.flows.flow import Flow, Output, match, term
from ovsnet.flows.learnt import LEARNT_COOKIE
from ovsnet.names import Table
from ovsnet.sandbox.openvswitch import inside, network_namespace

TARGET = "tcp:127.0.0.1:6653"
NUMBERS = {"a": 3, "b": 4, "c": 5}


class Pods:
    """Three pods on a bridge, of which `a` and `b` may talk. The controller is gone."""

    def __init__(self, program: Program, netns: dict[str, str]) -> None:
        self.program = program
        self._netns = netns
        self.wanted = Wanted(self.both_ways("a", "b"))
        add_bridge(program, NODE, controller=TARGET)  # type: ignore[arg-type]
        for host, (name, pod) in enumerate(netns.items(), 1):
            far = ["peer", "name", "eth0", "netns", pod]
            node = ["ip", "-n", program.netns, "link"]
            subprocess.run([*node, "add", f"p-{name}", "type", "veth", *far], check=True)
            subprocess.run([*node, "set", f"p-{name}", "up"], check=True)
            inner = ["ip", "-n", pod]
            subprocess.run([*inner, "addr", "add", f"10.0.0.{host}/24", "dev", "eth0"], check=True)
            subprocess.run([*inner, "link", "set", "eth0", "up"], check=True)
            # Their numbers are nobody's request, as those of real pods.
            port, number = f"p-{name}", f"ofport_request={NUMBERS[name]}"
            program.vsctl("add-port", BRIDGE, port, "--", "set", "Interface", port, number)
            program.vsctl("clear", "Interface", port, "ofport_request")
        self.write()

    @staticmethod
    def both_ways(one: str, other: str) -> list[Flow]:
        """Flows by which all that one of them sends comes to the other."""
        return [
            Flow(
                *(Table.CLASSIFY, 10, match(term(Field.IN_PORT, NUMBERS[here]))),
                *((Output(NUMBERS[there]),), OURS),
            )
            for here, there in ((one, other), (other, one))
        ]

    def write(self) -> None:
        with Brain(self.program.netns, {NODE: self.wanted}) as brain:
            brain.wait(Acknowledged)

    def talk(self, one: str, other: str) -> bool:
        there = f"10.0.0.{list(NUMBERS).index(other) + 1}"
        ping = ["ping", "-c", "1", "-W", "2", there]
        done = subprocess.run(inside(self._netns[one], ping), capture_output=True, check=False)
        return done.returncode == 0

    def restart(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        assert self.program.stop() == 0
        meanwhile()
        self.program.start()
        self.program.wait_until_up()

    def expect_no_flows(self) -> None:
        """None are there, not even half of them, and controllers may come."""
        assert not present(self.program)  # type: ignore[arg-type]
        assert not self.talk("a", "b")
        self.expect_controllers()

    def expect_controllers(self) -> None:
        columns = ("--columns=target,external_ids", "list", "Controller")
        rows = json.loads(self.program.vsctl("--format=json", *columns))["data"]
        assert rows == [[TARGET, ["map", []]]]
        assert not self.save.exists()

    @property
    def save(self) -> Path:
        return self.program.rundir / SAVED


@pytest.fixture
def pods(program: Program) -> Iterator[Pods]:
    with contextlib.ExitStack() as stack:
        run = secrets.token_hex(3)
        netns = {n: stack.enter_context(network_namespace(f"own-{n}-{run}")) for n in NUMBERS}
        program.start()
        program.wait_until_up()
        yield Pods(program, netns)


def test_who_talked_talks_and_nobody_else_while_no_controller_is_there(pods: Pods) -> None:
    assert pods.talk("a", "b")
    pods.restart()
    assert pods.talk("a", "b")
    assert pods.talk("b", "a")
    assert not pods.talk("c", "b")
    assert not pods.talk("a", "c")
    assert_right(pods.program, pods.wanted)  # type: ignore[arg-type]
    pods.expect_controllers()
    # And once more: a controller has been parked and let go before.
    pods.restart()
    assert pods.talk("a", "b")


def test_a_controller_that_returns_finds_every_sort_of_flow_and_writes_nothing(pods: Pods) -> None:
    pods.wanted = Wanted(served_flows())
    pods.write()
    learnt = "idle_timeout=600,priority=10,tcp,nw_src=10.0.0.1,actions=set_field:1->reg0"
    switch = f"unix:{pods.program.management_socket(BRIDGE)}"
    ofctl = ["ovs-ofctl", "-O", "OpenFlow15"]
    flow = f"table={Table.AFFINITY.value},cookie={LEARNT_COOKIE:#x},{learnt}"
    subprocess.run([*ofctl, "add-flow", switch, flow], check=True)

    def groups_and_learnt() -> list[str]:
        asked = (
            ["dump-groups", switch],
            ["dump-flows", "--no-stats", switch, f"table={Table.AFFINITY.value}"],
        )
        # Groups are printed in any order.
        return sorted(
            line
            for question in asked
            for line in subprocess.run(
                [*ofctl, *question], capture_output=True, text=True, check=True
            ).stdout.splitlines()
            if line.startswith(" ")
        )

    before = groups_and_learnt()
    assert len(before) > 1
    pods.restart()
    assert groups_and_learnt() == before
    with Brain(pods.program.netns, {NODE: pods.wanted}, generation=2) as brain:
        assert brain.wait(Synchronised).flows == len(pods.wanted.flows)
    assert_right(pods.program, pods.wanted)  # type: ignore[arg-type]
    assert not [n for n in brain.notices if isinstance(n, (Acknowledged, Compared))]


def test_what_was_forbidden_meanwhile_is_forbidden_when_a_controller_comes(pods: Pods) -> None:
    def change() -> None:
        gone = [flow.key for flow in pods.wanted.flows.values()]
        pods.wanted.change(Pods.both_ways("a", "c"), gone[1:])

    with Brain(pods.program.netns, {NODE: pods.wanted}) as brain:
        pods.restart(change)
        brain.wait(Acknowledged, lambda a: a.revision == pods.wanted.revision)
        assert_right(pods.program, pods.wanted)  # type: ignore[arg-type]


def test_a_save_is_for_one_start(pods: Pods) -> None:
    pods.restart()
    _, switch = pods.program.pids()
    os.kill(switch, signal.SIGKILL)
    assert pods.program.ended() == 1
    pods.program.start()
    pods.program.wait_until_up()
    pods.expect_no_flows()


@pytest.mark.parametrize(
    "harm",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-200]),
        lambda path: path.write_text(path.read_text().replace("in_port=3", "in_port=5")),
        lambda path: path.write_bytes(b"\xff"),
        lambda path: path.unlink(),
    ],
    ids=["cut off", "changed", "no text", "gone"],
)
def test_a_damaged_save_is_not_used(pods: Pods, harm: Callable[[Path], object]) -> None:
    pods.restart(lambda: harm(pods.save))
    pods.expect_no_flows()


def test_what_the_switch_refuses_in_part_it_gets_nothing_of(pods: Pods) -> None:
    def spoil() -> None:
        saved = flowsave.take(pods.save)
        assert saved is not None
        refused = "flow add table=0,priority=9,actions=group:77\n"
        bundles = {name: text + refused for name, text in saved.bundles.items()}
        flowsave.write(pods.save, Saved(saved.ports, bundles))

    pods.restart(spoil)
    assert "flows are not restored" in pods.program.log.read_text()
    pods.expect_no_flows()


def test_a_pod_that_ends_meanwhile_costs_the_others_nothing(pods: Pods) -> None:
    gone = ["ip", "-n", pods.program.netns, "link", "delete", "p-c"]
    pods.restart(lambda: subprocess.run(gone, check=True))
    assert pods.program.vsctl("get", "Interface", "p-c", "ofport") == "-1\n"
    assert pods.talk("a", "b")


def test_the_save_is_not_used_if_ports_have_other_numbers(pods: Pods) -> None:
    def exchange() -> None:
        in_database(pods.program, "Interface", [["name", "==", "p-b"]], {"ofport": NUMBERS["c"]})
        in_database(pods.program, "Interface", [["name", "==", "p-c"]], {"ofport": NUMBERS["b"]})

    pods.restart(exchange)
    assert re.search(r"the port p-[bc] of \S+ has another number", pods.program.log.read_text())
    pods.expect_no_flows()


def test_the_save_is_not_used_if_a_controller_could_have_written(pods: Pods) -> None:
    unparked = {"target": TARGET, "external_ids": ["map", []]}
    pods.restart(lambda: in_database(pods.program, "Controller", [], unparked))
    assert "a controller may have written something since" in pods.program.log.read_text()
    pods.expect_no_flows()


def in_database(program: Program, table: str, where: list[object], row: dict[str, object]) -> None:
    """Change a row while nobody has the database."""
    update = {"op": "update", "table": table, "where": where, "row": row}
    transaction = json.dumps(["Open_vSwitch", update])
    subprocess.run(
        ["ovsdb-tool", "transact", str(program.database), transaction],
        check=True,
        capture_output=True,
    )
