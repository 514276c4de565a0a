"""Generated services, judged three ways: by the evaluator, by real connections and datagrams from
pods, nodes and outside, and for some calls by the controller, which asks the switches' flows. All
agree, on who may answer, who does not, and whom he sees.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import count
from typing import TypeVar

import pytest
from agreement import disagreements
from calling import Ring
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from lab_api import ApiRefusalError
from market import Market
from msgspec.structs import replace
from service_strategies import service_worlds
from slowness import SLOW

from ovsnet.controller.inquiry import why
from ovsnet.model import EndpointSlice, Service, ServicePort, SlicePort
from ovsnet.services.evaluate import Dropped, HealthChecked, Outcome, Refused, Served
from ovsnet.services.world import Call, Endpoint, World

Port = TypeVar("Port", ServicePort, SlicePort)

WORLDS = 5
OF_EACH = {Served: 60, Refused: 15, Dropped: 15, HealthChecked: 6}
"""So many calls of a world are made that come to this."""

OF_WHY = 2
"""Of so many of each the controller is asked."""

_NOT_TO_BE_HAD = ("port is already allocated", "failed to allocate IP")
"""What real API servers say of services that the evaluator judges nevertheless."""

OUTCOMES = {
    Served: why.Outcome.SERVED,
    Refused: why.Outcome.REFUSED,
    Dropped: why.Outcome.DROPPED,
    HealthChecked: why.Outcome.HEALTH,
}


@pytest.mark.timeout(300 * SLOW)
def test_evaluator_and_packets_agree(market: Market) -> None:
    came_to: set[type[Outcome]] = set()

    # One world for each seed: of a row of them hypothesis makes each from the one before.
    @settings(
        max_examples=1,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(service_worlds(sctp=False).filter(busy), st.integers(0, 1 << 32))
    def agree(drawn: World, chosen_by: int) -> None:
        become(market, drawn)
        world = market.world()
        calls = list(market.calls(world))
        chance = random.Random(chosen_by)
        chosen = []
        for kind, number in OF_EACH.items():
            found = [each for each in calls if isinstance(each[2], kind)]
            came_to.update({kind} if found else ())
            some = chance.sample(found, min(number, len(found)))
            chosen += some
            for each in some[:OF_WHY]:
                expect_why(market, *each)
        wrong = disagreements(market, world, chosen)
        assert not wrong, "\n".join(wrong)

    for number in range(WORLDS):
        seed(number)(agree)()
    assert came_to == set(OF_EACH)


def expect_why(market: Market, ring: Ring, call: Call, outcome: Outcome) -> None:
    """`ovsnet why` says the same of a call, and that the flows do it."""
    said = market.why(ring)
    (called,) = said.services
    assert called.service == str(outcome.service), (ring, said)
    assert called.outcome == OUTCOMES[type(outcome)], (ring, said)
    assert called.source == str(call.client.address), (ring, said)
    assert {each.endpoint for each in called.endpoints} == set(map(str, endpoints(outcome)))
    assert said.agree, (ring, said)


def endpoints(outcome: Outcome) -> frozenset[Endpoint]:
    return outcome.endpoints if isinstance(outcome, Served) else frozenset()


def become(market: Market, world: World) -> None:
    """Have the services and slices of a world, in effect."""
    market.clear()
    for each in market.wire(*expressible(world)):
        try:
            market.write(each)
        except ApiRefusalError as refusal:
            # Only the embedded one takes what two want, and addresses of other ranges.
            if not (market.lab.real and any(words in str(refusal) for words in _NOT_TO_BE_HAD)):
                raise
    market.settle()


def busy(world: World) -> bool:
    """Whether there are at least two services with endpoints."""
    owners = {one.owner for one in world.slices.values() if one.endpoints}
    return sum(ref in owners for ref, one in world.services.items() if one.addresses) >= 2


def expressible(world: World) -> Iterator[Service | EndpointSlice]:
    """The objects of a world as valid ones of the API: services with an address; names of ports
    once in each of them, be it with a slice more.
    """
    for service in world.services.values():
        if service.addresses:
            yield replace(service, ports=tuple(map(_named, service.ports)))
    for one in world.slices.values():
        rest = [_named(port) for port in one.ports]
        for number in count():
            ports = {port.name: port for port in reversed(rest)}
            yield replace(one, name=f"{one.name}-{number}", ports=tuple(ports.values()))
            rest = [port for port in rest if port not in ports.values()]
            if not rest:
                break


def _named(port: Port) -> Port:
    """A port with a name that no other protocol has."""
    name = port.name and f"{port.name}-{port.protocol.lower()}"
    return replace(port, name=name)
