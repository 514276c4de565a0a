"""Breaking the compiler of services on purpose: flows not made, events passed over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from service_agreement import as_it_comes, disagreement
from service_breaks import Break, instead
from service_carriage import ServiceCarriage
from service_scenes import SCENES, scene_calls

from ovsnet.flows.flow import Flow, Goto, Match
from ovsnet.names import Table


def without(place: Any, name: str) -> Break:
    """A break that makes none of these flows."""
    return Break(place, name, lambda _: lambda *_, **__: iter(()))


def deaf(place: Any, name: str) -> Break:
    """A break that passes over an event."""
    return Break(place, name, lambda _: lambda self, *_: None)


def nothing(place: Any, name: str) -> Break:
    """A break that makes a flow for no packet at all."""
    return instead(place, name, lambda *_: Flow(Table.STAMP, 1, ()))


def less(place: Any, name: str, unwanted: Callable[[Flow], bool]) -> Break:
    """A break that leaves out some of these flows."""

    def broken(real: Any) -> Any:
        return lambda *args, **more: (f for f in real(*args, **more) if not unwanted(f))

    return Break(place, name, broken)


def goes_on(table: Table, condition: Match) -> Flow:
    return Flow(table, 1, condition, (Goto(Table.CONNTRACK),))


def in_scenes(breaks: Mapping[tuple[str, str], Break]) -> pytest.MarkDecorator:
    """Parametrizes a test with named breaks, each with the scene in which it must show."""
    found = [(scene, broken) for (_, scene), broken in breaks.items()]
    return pytest.mark.parametrize(("scene", "broken"), found, ids=[name for name, _ in breaks])


def shows(scene: str, broken: Break) -> bool:
    """Whether flows and evaluator disagree about some call of a scene once something is broken."""
    real = getattr(broken.module, broken.name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(broken.module, broken.name, broken.broken(real))
        carriage = ServiceCarriage.serving(SCENES[scene])
        found = (as_it_comes(carriage.services, call) for call in scene_calls(SCENES[scene]))
        return any(disagreement(carriage, call) for call in found if call is not None)
