"""Whether real calls come to what the evaluator says of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from calling import REFUSED, SILENT, Heard, Ring, ring
from market import Market

from ovsnet.services.evaluate import Dropped, HealthChecked, Outcome, Refused, Served
from ovsnet.services.world import Call, Endpoint, World

ROUNDS = 80
"""So often a call is made at most until every endpoint has taken it: of ten, one is missed once in
four hundred times.
"""

AT_LEAST = 2
"""So often each call that is served is made."""

STICKY_ROUNDS = 4
"""So often calls are made of which all but the first must go where that went."""


@dataclass
class Trial:
    """A call that is made again and again, and what came of it."""

    ring: Ring
    call: Call
    outcome: Outcome
    affine: bool = False
    reached: list[Endpoint] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def done(self) -> bool:
        """Whether it need not be made again."""
        if self.faults:
            return True
        if not isinstance(self.outcome, Served):
            return bool(self.reached)
        if self.affine:
            return len(self.reached) >= STICKY_ROUNDS
        return len(self.reached) >= AT_LEAST and set(self.reached) == self.outcome.endpoints


def disagreements(
    market: Market, world: World, calls: Iterable[tuple[Ring, Call, Outcome]]
) -> list[str]:
    """What comes of these calls otherwise than it should, in words."""
    trials = [Trial(*each, affine=_affine(world, each[2])) for each in calls]
    for _ in range(ROUNDS):
        left = [trial for trial in trials if not trial.done]
        if not left:
            break
        # Those that nobody answers come together, or each bunch would be waited for.
        left.sort(key=lambda trial: isinstance(trial.outcome, Dropped))
        silent = [trial.ring for trial in left if isinstance(trial.outcome, Dropped)]
        for trial, heard in zip(left, ring([t.ring for t in left], silent), strict=True):
            trial.faults += judged(market, trial, heard)
    return [f"{t.ring} ({t.call}, {t.outcome}): {fault}" for t in trials for fault in _faults(t)]


def _affine(world: World, outcome: Outcome) -> bool:
    return isinstance(outcome, Served) and world.services[outcome.service].affinity > 0


def _faults(trial: Trial) -> Iterator[str]:
    yield from trial.faults
    if not trial.done:
        missing = set(trial.outcome.endpoints) - set(trial.reached)
        yield f"never reached {', '.join(map(str, missing))} in {len(trial.reached)} calls"


_NOBODY = Endpoint(None, 0)


def judged(market: Market, trial: Trial, heard: Heard) -> Iterator[str]:
    """What is wrong with what came of one call; the trial notes who was reached."""
    match trial.outcome:
        case Served():
            yield from _served(market, trial, trial.outcome, heard)
            return
        case Refused():
            wanted = REFUSED
        case Dropped():
            wanted = SILENT
        case HealthChecked(status=status):
            wanted = Heard(status=status)
    trial.reached.append(_NOBODY)
    if heard != wanted:
        yield f"{heard}, and not {wanted}"


def _served(market: Market, trial: Trial, outcome: Served, heard: Heard) -> Iterator[str]:
    by_name = {(market.name_of(e.address), e.port): e for e in outcome.endpoints}
    endpoint = by_name.get((heard.who, heard.port))
    if endpoint is None:
        yield f"{heard}, and none of {sorted(by_name)}"
        return
    trial.reached.append(endpoint)
    if trial.affine and endpoint != trial.reached[0]:
        yield f"reached {endpoint} after {trial.reached[0]}"
    client = str(trial.call.client.address)
    if endpoint in outcome.kept and heard.seen != client:
        yield f"{endpoint} sees {heard.seen}"
    if endpoint in outcome.hidden and heard.seen == client:
        yield f"{endpoint} sees the client as itself"
