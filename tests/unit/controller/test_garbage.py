"""The collector comes back once the first load has been dealt with, and not before."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from ovsnet.controller.garbage import FirstLoad
from ovsnet.controller.results import Ready

USUAL = gc.get_threshold()


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    gc.unfreeze()
    gc.set_threshold(*USUAL)


def test_the_collector_comes_back_when_the_cluster_is_known_and_nothing_waits() -> None:
    waiting = [1]
    first_load = FirstLoad(lambda: len(waiting))
    assert gc.get_threshold() != USUAL
    waiting.clear()
    first_load.refresh()
    assert gc.get_threshold() != USUAL, "it is quiet, but nothing is known"
    first_load(Ready(nodes=1, pods=0))
    waiting.append(1)
    first_load.refresh()
    assert gc.get_threshold() != USUAL, "switches wait for their flows"
    waiting.clear()
    first_load.refresh()
    assert gc.get_threshold() == USUAL
    assert gc.get_freeze_count(), "what was there at first is set aside"
    # The count itself may fall: what is set aside is still freed when nobody refers to it any more.
    later: list[list[int]] = [[]]
    first_load.refresh()
    assert any(tracked is later for tracked in gc.get_objects()), "and what came later is not"
