"""Breaking rules of services on purpose: what stands in the place of which function, and
the scenario that must notice. Scenarios that cannot fail prove nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import pytest

Scenario = Callable[[], None]


class Break(NamedTuple):
    """A function of a module, and what stands in its place: made of the real one."""

    module: Any
    name: str
    broken: Callable[[Any], Any]


def instead(module: Any, name: str, value: Any) -> Break:
    """A break that puts a value in a place, whatever was there."""
    return Break(module, name, lambda _: value)


def always(module: Any, name: str, result: Any) -> Break:
    """A break that makes a function return one result, whatever it is asked."""
    return instead(module, name, lambda *_: result)


def of(scenario: Callable[..., None], *arguments: Any) -> Scenario:
    """A scenario with its arguments."""
    return partial(scenario, *arguments)


def each(breaks: Mapping[str, tuple[Break, Scenario]]) -> pytest.MarkDecorator:
    """Parametrizes a test with named breaks and the scenarios that must notice them."""
    return pytest.mark.parametrize(("broken", "scenario"), breaks.values(), ids=breaks.keys())


def notices(scenario: Scenario, broken: Break) -> bool:
    """Whether a scenario that passes fails once something is broken."""
    scenario()
    real = getattr(broken.module, broken.name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(broken.module, broken.name, broken.broken(real))
        try:
            scenario()
        except AssertionError:
            return True
    return False
