"""What was cached a moment before a change is put right by the time that is reported, too.

A round of the revalidators that has to take much out of the cache leaves some of what is new there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from cached_flows import RECEIVER, Switch, running
from places import wait_for

from ovsnet.cni.revalidation import Revalidation, connected

FORBIDDEN = "table=0,priority=60,udp,tp_dst=9"
"""What `Switch.fill` sends. It makes all that is cached of that too coarse."""


@pytest.fixture(scope="module")
def switch() -> Iterator[Switch]:
    with running() as found:
        yield found


def left_of_new_flows(switch: Switch, number: int, finish: Callable[[Revalidation], None]) -> int:
    """How many of so many new cached flows still send, once `finish` says that none does."""
    with connected(switch.ovs.rundir) as cache:
        switch.bundle(f"delete_strict {FORBIDDEN}")
        cache.finish()
        switch.fill(number)
        wait_for(lambda: sending(switch) >= number, f"{number} cached flows to {RECEIVER}", 20)
        switch.bundle(f"add {FORBIDDEN},actions=drop")
        finish(cache)
        return sending(switch)


def sending(switch: Switch) -> int:
    lines = switch.ovs.appctl("dpctl/dump-flows").splitlines()
    return sum("dst=9" in line and "actions:drop" not in line for line in lines)


@pytest.mark.parametrize("number", [100, 300, 1500, 5000])
def test_new_flows_are_put_right(switch: Switch, number: int) -> None:
    for _ in range(5):
        assert left_of_new_flows(switch, number, Revalidation.finish) == 0


def test_one_round_leaves_some(switch: Switch, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the test above sees if the agent waits for one round, as it well might."""

    def one_round(cache: Revalidation) -> None:
        with monkeypatch.context() as patches:
            patches.setattr(cache, "_until_nothing_goes", lambda: None)
            cache.finish()

    assert sum(left_of_new_flows(switch, 300, one_round) > 0 for _ in range(10)) > 2
