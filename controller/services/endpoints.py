"""Which endpoints a port of a service has, for every node.

The rules are those of Kubernetes' own proxy (KEP-1672 terminating endpoints, KEP-2086 internal
traffic policy, KEP-2433 and KEP-4444 hints).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import msgspec

from ovsnet.flows.balance import MOST_ENDPOINTS
from ovsnet.flows.service import Target
from ovsnet.model import SliceEndpoint

Candidates = Mapping[Target, SliceEndpoint]
"""Every endpoint of a port once, with what its slice says of it."""

_NONE: Mapping[str, tuple[Target, ...]] = {}


class Choice(msgspec.Struct, frozen=True):
    """The endpoints of a port of one family, in order.

    `everywhere` are those for nodes that have none of their own: in `nodes` are those that hints
    mean for single nodes, in `zones` those for zones. `local` are each node's own ones, for traffic
    policy Local, and `healthy` the nodes that have ready ones.
    """

    everywhere: tuple[Target, ...] = ()
    zones: Mapping[str, tuple[Target, ...]] = _NONE
    nodes: Mapping[str, tuple[Target, ...]] = _NONE
    local: Mapping[str, tuple[Target, ...]] = _NONE
    healthy: frozenset[str] = frozenset()


def candidates(found: Iterable[tuple[Target, SliceEndpoint]]) -> Candidates:
    """Every endpoint once. Of several slices that name it, the first one counts that says the best
    of it.
    """
    best: dict[Target, SliceEndpoint] = {}
    for target, endpoint in found:
        known = best.get(target)
        if known is None or _standing(endpoint) > _standing(known):
            best[target] = endpoint
    return best


def _standing(endpoint: SliceEndpoint) -> tuple[bool, bool]:
    return endpoint.ready, endpoint.serving and endpoint.terminating


def choose(found: Candidates) -> Choice:
    """The endpoints that each node is to use."""
    ready = {target for target, endpoint in found.items() if endpoint.ready}
    draining = {t for t, e in found.items() if e.serving and e.terminating}
    chosen = sorted(ready or draining)[:MOST_ENDPOINTS]
    local_ready = _grouped(ready, lambda target: [found[target].node])
    local = _grouped(draining, lambda target: [found[target].node]) | local_ready
    return Choice(
        everywhere=tuple(chosen),
        zones=_hinted(ready, lambda target: found[target].zones),
        nodes=_hinted(ready, lambda target: found[target].nodes),
        local={node: targets for node, targets in local.items() if node},
        healthy=frozenset(local_ready) - {""},
    )


def _hinted(
    ready: Iterable[Target], hints: Callable[[Target], Iterable[str]]
) -> dict[str, tuple[Target, ...]]:
    """The endpoints by those whom hints mean them for: only if there is a hint for each of them."""
    return _grouped(ready, hints) if all(hints(target) for target in ready) else {}


def _grouped(
    targets: Iterable[Target], names: Callable[[Target], Iterable[str]]
) -> dict[str, tuple[Target, ...]]:
    found: dict[str, list[Target]] = {}
    for target in sorted(targets):
        for name in sorted(set(names(target))):
            found.setdefault(name, []).append(target)
    return {name: tuple(here[:MOST_ENDPOINTS]) for name, here in found.items()}
