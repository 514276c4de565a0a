"""Ports that get no flows: since when, and of which of them it is time to tell somebody.

The news of a port's pod may be on the way, so none is told of at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TypeAlias

from ovsnet.controller.belief import Refusal

RefusedPort: TypeAlias = tuple[str, Refusal]
"""The node whose switch has the port, and what there is against it."""


class RefusedPorts:
    """The refused ports of all nodes. Each is told of once, after `grace` seconds."""

    def __init__(self, grace: float) -> None:
        self._grace = grace
        self._since: dict[RefusedPort, float] = {}
        self._told: set[RefusedPort] = set()

    @property
    def since(self) -> Mapping[RefusedPort, float]:
        """Every refused port, and when it was first refused, by the clock."""
        return MappingProxyType(self._since)

    @property
    def due(self) -> float:
        """When the next one is to be told of."""
        waiting = (since for key, since in self._since.items() if key not in self._told)
        return min(waiting, default=float("inf")) + self._grace

    def are(self, refused: Iterable[RefusedPort], now: float) -> None:
        """These are all the refused ports there are."""
        present = set(refused)
        for key in self._since.keys() - present:
            del self._since[key]
            self._told.discard(key)
        for key in present - self._since.keys():
            self._since[key] = now

    def overdue(self, now: float) -> list[RefusedPort]:
        """Those of which it is time to tell, once each."""
        overdue = [
            key
            for key, since in self._since.items()
            if key not in self._told and now - since >= self._grace
        ]
        self._told.update(overdue)
        return overdue

    def tell_again(self) -> None:
        """Whoever was told hears no more: tell the next one of all that there are."""
        self._told.clear()
