"""Flows: from values to acknowledged in a switch, encoding, decoding, and one change alone."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from ovsnet.controller.notices import Acknowledged
from ovsnet.controller.openflow import decode, encode
from ovsnet.flows.fields import EthType, Field, IpProto
from ovsnet.flows.flow import Conjunction, Flow, Goto, Owner, OwnerKind, match, term
from ovsnet.flows.ledger import Delta
from ovsnet.flows.text import print_flow
from ovsnet.names import Table
from ovsnet.sandbox.openvswitch import OpenVSwitch, network_namespace
from tests.bench.figures import Figure, figure, show, write
from tests.openflow_harness import BRIDGE, Brain, Wanted, add_bridge
from tests.openflow_wire import Wire

COUNT = 100_000
_OSKEN_COUNT = 5_000
_SINGLE_CHANGES = 200
_NODE = "bench"
_TABLE_NAME = re.compile(r'(table[=:])"?([a-z]\w*)"?')


class _Lab(NamedTuple):
    switch: OpenVSwitch
    brain: Brain
    wanted: Wanted


def policy_flows(count: int) -> list[Flow]:
    """Distinct flows as NetworkPolicies make them: addresses and ports as clauses of rules."""
    flows = []
    for i in range(count):
        rule, kind = i % 977, i % 4
        cookie = Owner(OwnerKind.POLICY, f"bench/rule-{rule}").cookie
        family = term(Field.ETH_TYPE, EthType.IPV4)
        if kind == 0:
            terms = [family, term(Field.IPV4_SRC, 0x0A000000 + i)]
        elif kind == 1:
            terms = [family, term(Field.IPV4_DST, 0x0A000000 + i)]
        elif kind == 2:
            low = 1024 + i % 60000
            proto = term(Field.IP_PROTO, IpProto.TCP)
            terms = [family, proto, term(Field.TCP_DST, low), term(Field.REG1, i // 60000)]
        else:
            terms = [term(Field.ETH_TYPE, EthType.IPV6), term(Field.IPV6_SRC, (0xFD << 120) + i)]
        action = Goto(Table.ROUTE) if rule == 0 else Conjunction(rule, 1 + i % 2, 2)
        flows.append(Flow(Table.EGRESS_POLICY, 100, match(*terms), (action,), cookie))
    return flows


def figures(rounds: int) -> list[Figure]:
    """Every figure, ours and the baseline's measured in turn."""
    flows = policy_flows(COUNT)
    assert len({flow.key for flow in flows}) == COUNT
    with _lab() as lab:
        return [
            *_acknowledged(lab, flows, rounds),
            *_codec(flows, rounds, _dump_of(lab, flows)),
            _single(lab),
        ]


def _acknowledged(lab: _Lab, flows: list[Flow], rounds: int) -> list[Figure]:
    loads: list[float] = []
    clears: list[float] = []
    baseline: list[float] = []
    memory: list[float] = []
    with tempfile.NamedTemporaryFile("w", suffix=".flows") as text:
        text.writelines(f"{_with_numbers(print_flow(flow))}\n" for flow in flows)
        text.flush()
        for _ in range(rounds):
            loads.append(_change(lab, adds=flows))
            clears.append(_change(lab, deletes=flows))
            memory.append(_peak_megabytes(lab.switch))
            baseline.append(_seconds(lambda: _load(lab, text.name)))
            lab.switch.ofctl("del-flows", BRIDGE, f"table={Table.EGRESS_POLICY:d}")
    return [
        figure(
            f"{COUNT:,} flows, from values to acknowledged",
            "s",
            loads,
            ("ovs-ofctl --bundle add-flows", baseline),
            target=1.0,
        ),
        figure(f"{COUNT:,} deletes in one bundle, acknowledged", "s", clears),
        figure("most memory that ovs-vswitchd had", "MB", memory),
    ]


def _load(lab: _Lab, path: str) -> None:
    lab.switch.ofctl("add-flows", BRIDGE, "--bundle", path)


def _with_numbers(text: str) -> str:
    """Tables by number: ovs-ofctl would have to ask the switch for their names first."""
    return _TABLE_NAME.sub(lambda found: f"{found[1]}{Table[found[2].upper()]:d}", text)


def _codec(flows: list[Flow], rounds: int, parts: list[bytes]) -> list[Figure]:
    encoded: list[float] = []
    osken: list[float] = []
    decoded: list[float] = []
    for _ in range(rounds):
        encoded.append(COUNT / _seconds(lambda: encode.flow_adds(flows)))
        osken.append(_osken_encode_rate())
        decoded.append(COUNT / _seconds(lambda: [decode.flows(part) for part in parts]))
    return [
        figure(
            "flow-mods encoded",
            "1/s",
            encoded,
            ("os-ken", osken),
            less_is_better=False,
        ),
        figure("flows of a dump decoded", "1/s", decoded, less_is_better=False),
    ]


def _single(lab: _Lab) -> Figure:
    return figure(
        "one change, to acknowledged",
        "ms",
        [_change(lab, adds=[flow]) * 1000 for flow in policy_flows(_SINGLE_CHANGES)],
    )


def _change(lab: _Lab, adds: list[Flow] | None = None, deletes: list[Flow] | None = None) -> float:
    lab.wanted.revision += 1
    delta = Delta(tuple(adds or ()), tuple(deletes or ()), lab.wanted.revision, lab.wanted.revision)
    lab.brain.notices.clear()

    def acknowledged() -> None:
        lab.brain.change(_NODE, delta)
        lab.brain.wait(Acknowledged, lambda notice: notice.revision == delta.revision)

    return _seconds(acknowledged)


def _dump_of(lab: _Lab, flows: list[Flow]) -> list[bytes]:
    with Wire(lab.switch.management_socket(BRIDGE)) as wire:
        wire.bundle(encode.flow_adds(flows))
        parts = wire.dump()
        wire.bundle(encode.flow_deletes(flow.key for flow in flows))
    return parts


def _osken_encode_rate() -> float:
    """The same sort of flow through os-ken's own classes."""
    from os_ken.ofproto import ofproto_v1_5, ofproto_v1_5_parser

    class Datapath:
        ofproto = ofproto_v1_5
        ofproto_parser = ofproto_v1_5_parser

    parser = ofproto_v1_5_parser

    def encode_all() -> None:
        for i in range(_OSKEN_COUNT):
            message = parser.OFPFlowMod(
                Datapath,
                table_id=7,
                priority=100,
                match=parser.OFPMatch(eth_type=0x0800, ipv4_src=0x0A000000 + i),
                instructions=[
                    parser.OFPInstructionActions(
                        ofproto_v1_5.OFPIT_APPLY_ACTIONS,
                        [parser.NXActionConjunction(clause=0, n_clauses=2, id_=i % 977)],
                    )
                ],
            )
            message.serialize()

    return _OSKEN_COUNT / _seconds(encode_all)


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _peak_megabytes(switch: OpenVSwitch) -> float:
    status = Path(f"/proc/{switch.switch_pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1000


@contextlib.contextmanager
def _lab() -> Iterator[_Lab]:
    with network_namespace(f"bench-of-{os.getpid()}") as netns, OpenVSwitch(netns) as switch:
        wanted = Wanted()
        with Brain(netns, {_NODE: wanted}) as brain:
            add_bridge(switch, _NODE)
            brain.wait(Acknowledged)
            yield _Lab(switch, brain, wanted)


if __name__ == "__main__":
    found = figures(rounds=5)
    show(found, Console())
    write(found, Path("build/bench-flows.json"))
