"""Python's garbage collector, kept out of the way of the first load.

What the controller knows of a cluster is millions of values that live on, none of them in a cycle.
The collector would look at all of them again whenever they have grown by a quarter, which takes a
third of the first load's time. So it hardly runs until everybody who waited has been served, and
what is there by then is set aside for good.
"""

from __future__ import annotations

import gc
from collections.abc import Callable

from ovsnet.controller.results import Ready, Result

_USUAL = gc.get_threshold()
_WHILE_LOADING = 1_000_000


def hold_off() -> None:
    """Collect only once in a million values; cycles that die meanwhile are bounded by that."""
    gc.set_threshold(_WHILE_LOADING)


def set_aside() -> None:
    """Collect as usual, but nothing of what is there now."""
    gc.freeze()
    gc.set_threshold(*_USUAL)


class FirstLoad:
    """A watcher that ends the first load when the cluster is known and nothing more waits.

    `depth` tells how many events wait.
    """

    def __init__(self, depth: Callable[[], int]) -> None:
        self._depth = depth
        self._ready = False
        self._over = False
        hold_off()

    def __call__(self, result: Result) -> None:
        """Something happened."""
        self._ready = self._ready or isinstance(result, Ready)

    def refresh(self) -> None:
        """Some time has passed."""
        if self._ready and not self._over and not self._depth():
            self._over = True
            set_aside()
