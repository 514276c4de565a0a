"""Flows for tests of sessions with real switches, and what such a switch has of them."""

from __future__ import annotations

from openflow_harness import BRIDGE, Wanted
from openflow_wire import Wire

from ovsnet.controller.openflow import decode
from ovsnet.controller.openflow.decode import ForeignFlow, Stats
from ovsnet.flows.fields import EthType, Field
from ovsnet.flows.flow import Flow, FlowKey, Goto, Output, match, term
from ovsnet.flows.stamp import STAMP_KEY
from ovsnet.names import Table
from ovsnet.sandbox.openvswitch import OpenVSwitch

NODE = "node-1"
OURS = 1 << 56


def flow(number: int, port: int = 1, cookie: int = OURS) -> Flow:
    """One of many flows that differ in the address that they are for."""
    family = term(Field.ETH_TYPE, EthType.IPV4)
    where = match(family, term(Field.IPV4_DST, number))
    return Flow(Table.ROUTE, 10, where, (Output(port), Goto(Table.OUTPUT)), cookie)


def present(
    switch: OpenVSwitch, bridge: str = BRIDGE
) -> dict[FlowKey | None, tuple[Flow | ForeignFlow, Stats]]:
    """The switch's flows with their statistics, without the stamp."""
    with Wire(switch.management_socket(bridge)) as wire:
        found = [pair for part in wire.dump() for pair in decode.flows_with_stats(part)]
    return {f.key: (f, stats) for f, stats in found if f.key != STAMP_KEY}


def assert_right(switch: OpenVSwitch, wanted: Wanted, bridge: str = BRIDGE) -> None:
    assert {key: f for key, (f, _) in present(switch, bridge).items()} == wanted.flows
