"""The simulator against `ovs-appctl ofproto/trace` on a real switch, over generated flows and
packets: the same flows passed, the same packet at the end, the same packets sent.

OVSNET_TEST_SCENARIOS asks for more scenarios than the usual ones.
"""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest
from flow_switch import flow_switch
from trace_agreement import BUCKETS, SELECT_GROUP, disagreement, pool, simulated, smallest

from ovsnet.names import BRIDGE

SCENARIOS = int(os.environ.get("OVSNET_TEST_SCENARIOS", "80"))


@pytest.fixture(scope="module")
def switch():
    with flow_switch("trace") as made:
        made.add_underlay()
        made.add_groups(",".join(f"bucket=actions={bucket}" for bucket in BUCKETS))
        made.ovs.ofctl("mod-group", BRIDGE, SELECT_GROUP)
        yield made


@pytest.fixture(scope="module")
def generated():
    # What hypothesis generates depends on the modules that are loaded, of which a whole run of
    # the tests has more than this file alone: in a fresh process it is the same every time.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
        return fresh.submit(pool).result()


@pytest.mark.parametrize("batch", range(10))
def test_the_simulator_agrees_with_the_switch(switch, generated, batch):
    ports = switch.datapath_ports()
    for seed in range(batch, SCENARIOS, 10):
        scenario = generated.scenario(seed)
        switch.replace(scenario.flows)
        simulator = simulated(scenario.flows)
        for packet, states in scenario.packets:
            found = disagreement(switch, simulator, ports, packet, states)
            if found:
                small = smallest(switch, ports, scenario.flows, packet, states)
                pytest.fail(f"scenario {seed}: {found}\n\n{small}")
