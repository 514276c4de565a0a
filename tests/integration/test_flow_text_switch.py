"""Flows as text against a real switch: what is printed can be added, and its dump reads back."""

from __future__ import annotations

import pytest
from flow_strategies import flows
from flow_switch import NUMBERS, PORTS, flow_switch
from hypothesis import given, settings

from ovsnet.flows.text import parse_flows, print_flow


@pytest.fixture(scope="module")
def switch():
    with flow_switch("flowtext") as made:
        made.add_groups()
        yield made


@pytest.fixture(scope="module")
def generated(switch):
    """Several hundred generated flows with distinct keys, all of them accepted by the switch."""
    made = {}

    @settings(max_examples=400, deadline=None, derandomize=True, database=None)
    @given(flows())
    def collect(flow):
        made[flow.key] = flow

    collect()
    switch.replace(made.values())
    return made


@pytest.mark.parametrize("naming", ["--names", "--no-names"])
def test_every_flow_comes_back_as_it_went_in(switch, generated, naming):
    dump = switch.dump(naming)
    assert {found.flow.key: found.flow for found in parse_flows(dump, NUMBERS)} == generated


def test_flows_are_printed_letter_by_letter_as_ovs_ofctl_prints_them(switch, generated):
    dump = switch.dump("--names", "--no-stats")
    theirs = {line.strip() for line in dump.splitlines() if "actions=" in line}
    ours = {_as_dumped(print_flow(flow, PORTS)) for flow in generated.values()}
    assert theirs == ours


def _as_dumped(line: str) -> str:
    """A dump leaves out the priority where it is the default one."""
    return line.replace(", priority=32768 ", ",  ").replace(", priority=32768,", ", ")


def test_statistics_are_read_from_a_dump(switch, generated):
    found = list(parse_flows(switch.dump(), NUMBERS))
    assert len(found) == len(generated)
    assert all(one.duration is not None and one.packets == 0 for one in found)
