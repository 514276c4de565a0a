"""Throughput and round trip between pods under a thousand policy rules, against none.

Both pods of a connection are subjects of all rules, half of which are about what they send and
half about what they receive; one of each half lets them talk. The same switches carry both, the
flows being replaced in between.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path

from rich.console import Console

from ovsnet.model import (
    Direction,
    IPBlock,
    NetworkPolicy,
    PolicyPeer,
    PolicyPort,
    PolicyRule,
    Protocol,
    Selector,
)
from tests.bench.figures import Figure, figure, show, write
from tests.bench.lab import NAMESPACE, labs
from tests.bench.traffic import MEASURES, servers

RULES = 1_000
_POLICIES = 10
_ELSEWHERE = 0x0B000000


def figures(rounds: int) -> list[Figure]:
    """Every figure, with rules and without measured in turn."""
    policies = list(_policies())
    states = {"rules": policies, "none": []}
    measured: dict[tuple[str, str], dict[str, list[float]]] = {}
    with labs() as lab, servers(lab.ours):
        client = lab.ours.client
        places = {"same node": lab.ours.near, "across nodes": lab.ours.far}
        for _, (where, server), (what, measure) in itertools.product(
            range(rounds), places.items(), MEASURES.items()
        ):
            series = measured.setdefault((what, where), {name: [] for name in states})
            for state, present in states.items():
                lab.enforce(present)
                series[state] += measure.of(client, server)
    return [
        figure(
            f"{what}, {where}, {RULES:,} policy rules",
            MEASURES[what].unit,
            found["rules"],
            ("no policy", found["none"]),
            MEASURES[what].target,
            MEASURES[what].less_is_better,
        )
        for (what, where), found in measured.items()
    ]


def _policies() -> Iterator[NetworkPolicy]:
    """Policies that select all pods. The last rule of the last one admits all pods; every other
    one admits a network of its own to a port of its own.
    """
    each = RULES // _POLICIES // len(Direction)
    for number in range(_POLICIES):
        rules = [_rule(number * each + k) for k in range(each)]
        if number == _POLICIES - 1:
            rules[-1] = PolicyRule(peers=(PolicyPeer(pods=Selector()),))
        yield NetworkPolicy(
            NAMESPACE,
            f"np-{number}",
            directions=frozenset(Direction),
            ingress=tuple(rules),
            egress=tuple(rules),
        )


def _rule(number: int) -> PolicyRule:
    network = IPv4Network((_ELSEWHERE + (number << 8), 24))
    protocol = Protocol.UDP if number % 2 else Protocol.TCP
    return PolicyRule(
        peers=(PolicyPeer(ip_block=IPBlock(network)),),
        ports=(PolicyPort(protocol, 1_000 + number),),
    )


if __name__ == "__main__":
    found = figures(rounds=3)
    show(found, Console())
    write(found, Path("build/bench/policies_traffic.json"))
