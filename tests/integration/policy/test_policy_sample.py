"""Generated policies, judged three ways: by the evaluator, by the flows that the switches hold, and
by packets. Of every pair of ends a sample of connections is tried, in both families: all agree.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from ipaddress import ip_address
from itertools import permutations

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from policy_carriage import Carriage, answer, first_packet
from policy_scenes import deliverable
from policy_strategies import ICMP, NAMESPACES, changes, ports_to_try
from slowness import SLOW
from switch_state import dump, ports
from town import PODS, Town
from volley import Volley

from ovsnet.model import IPAddress, NetworkPolicy, PolicyRule, Protocol
from ovsnet.policy.evaluate import Traffic, evaluate
from ovsnet.policy.rules import NUMBERS
from ovsnet.policy.world import NodeName, World, addresses

WORLDS = 30
OF_EACH_PAIR = 2


@pytest.mark.timeout(300 * SLOW)
def test_evaluator_flows_and_packets_agree(town: Town, volley: Volley) -> None:
    start = town.world()
    changeable = World.of(
        [start.namespaces[name] for name in NAMESPACES],
        [pod for pod in start.pods.values() if str(pod.ref) in PODS],
        start.nodes.values(),
    )

    # Without the search for a smaller example, which would take hours.
    @settings(
        max_examples=WORLDS,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(changes(changeable, max_policies=6, min_policies=2), st.integers(0, 1 << 32))
    def agree(world: World, seed: int) -> None:
        become(town, world)
        now = town.world()
        carriage = carriage_of(town, now)
        drawn = sample(town, now, random.Random(seed))
        tried = [traffic for traffic in drawn if deliverable(carriage, traffic)]
        verdicts = {traffic: evaluate(now, traffic).allowed for traffic in tried}
        assert [t for t, allowed in verdicts.items() if carried(carriage, t) != allowed] == []
        assert volley.disagreements(tried, verdicts.__getitem__) == []

    agree()


def become(town: Town, world: World) -> None:
    """Have the labels and policies of a world, in effect."""
    for name, space in world.namespaces.items():
        town.label(name, space.labels)
    for ref, pod in world.pods.items():
        town.label(str(ref), pod.labels)
    town.enforce(*map(expressible, world.policies.values()))


def expressible(policy: NetworkPolicy) -> NetworkPolicy:
    """A policy without the rules that no valid object of the API can say."""
    return replace(
        policy,
        ingress=tuple(filter(_says_something, policy.ingress)),
        egress=tuple(filter(_says_something, policy.egress)),
    )


def _says_something(rule: PolicyRule) -> bool:
    return rule.peers != () and rule.ports != ()


def carriage_of(town: Town, world: World) -> Carriage:
    """The flows that the town's switches hold now."""
    nodes = town.lab.nodes
    flows = {name: [each.flow for each in dump(town.lab, name)] for name in nodes}
    numbered = {name: {port.ofport: port for port in ports(town.lab, name)} for name in nodes}
    return Carriage(world, flows, ports=numbered)


def carried(carriage: Carriage, traffic: Traffic) -> bool:
    """Whether the flows let a connection's first packet pass, and with it the answer."""
    ends = traffic.source, traffic.destination
    alone = Carriage(
        carriage.world, carriage.flows, switches=carriage.switches, ports=carriage.ports
    )
    passed = alone.arrives(first_packet(traffic), *ends)
    return passed and alone.arrives(answer(traffic), *reversed(ends))


def sample(town: Town, world: World, chance: random.Random) -> Iterator[Traffic]:
    """Between every two ends, by some protocols to some ports."""
    numbers = [NUMBERS[protocol] for protocol in (Protocol.TCP, Protocol.UDP)]
    ported = [(number, port) for number in numbers for port in ports_to_try(world)]
    for version in (4, 6):
        choices = [*ported, *[(ICMP[version], None)] * (len(ported) // 4)]
        for source, target in permutations(all_ends(town, world, version), 2):
            for protocol, port in chance.sample(choices, OF_EACH_PAIR):
                yield Traffic(source, target, protocol, port)


def all_ends(town: Town, world: World, version: int) -> list[IPAddress]:
    """Every address of a pod or a node, and one outside."""
    known = [*world.pods, *map(NodeName, world.nodes)]
    found = [address for end in known for address in addresses(world, end, version)]
    return list(dict.fromkeys([*found, ip_address(town.lab.outside.address(version))]))
