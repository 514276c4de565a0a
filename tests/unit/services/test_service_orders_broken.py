"""The engine that keeps services up to date with one rule broken on purpose: some order of events
must end in another state.
"""

from __future__ import annotations

from typing import Any

import pytest
import test_service_orders as orders
from hypothesis import HealthCheck, Phase, given, settings
from msgspec.structs import replace
from service_breaks import Break, instead
from service_flow_breaks import deaf

from ovsnet.controller.services import board, doors
from ovsnet.flows.ledger import Ledger


def told_nobody(real: Any) -> Any:
    """Who has a clash with others tells them nothing."""

    def found(self: Any, one: Any, wanted: Any) -> Any:
        list(real(self, one, wanted))
        return iter(())

    return found


def without_dirt(place: Any, name: str) -> Break:
    """A break in which an event makes no service be compiled anew."""

    def broken(real: Any) -> Any:
        def heard(self: Any, *args: Any) -> Any:
            before = set(self._dirty)
            real(self, *args)
            self._dirty = before

        return heard

    return Break(place, name, broken)


def settles_nothing(real: Any) -> Any:
    def heard(self: Any, addresses: Any) -> Any:
        real(self, addresses)
        self._unsettled.clear()

    return heard


def begins_empty(real: Any) -> Any:
    def found(self: Any, zone: str) -> Any:
        if zone:
            self._zones.setdefault(zone, board.Commons(self._fingerprint))
        return real(self, zone)

    return found


BREAKS = {
    "who loses an address is not told": Break(doors.Claims, "add", told_nobody),
    "who gets an address is not told": Break(doors.Claims, "remove", told_nobody),
    "pod ranges change nothing": without_dirt(board.Board, "set_pod_ranges"),
    "slices that come change nothing": without_dirt(board.Board, "put_slice"),
    "slices that go change nothing": without_dirt(board.Board, "_take_out"),
    "nodes that have services' addresses change nothing": Break(
        board.Board, "set_node_addresses", settles_nothing
    ),
    "what is shared goes with the first who leaves": Break(
        board.Board,
        "_count",
        lambda real: lambda self, one, step: real(self, one, step if step > 0 else -9),
    ),
    "zones that are new are empty": Break(board.Board, "commons", begins_empty),
    "nodes that are new have nothing of their own": instead(
        board.Board, "blocks_on", lambda self, name: ()
    ),
    "nodes stay in their zone": deaf(Ledger, "move"),
    "zones are not followed": Break(
        board.Board,
        "take_changes",
        lambda real: lambda self: replace(real(self), zones={}),
    ),
    "single nodes are not followed": Break(
        board.Board,
        "take_changes",
        lambda real: lambda self: replace(real(self), nodes={}),
    ),
    "services that go stay": deaf(board.Board, "drop_service"),
}

_quickly = settings(
    max_examples=400,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("broken", BREAKS.values(), ids=BREAKS.keys())
def test_a_broken_engine_ends_in_another_state(
    broken: Break, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = getattr(broken.module, broken.name)
    monkeypatch.setattr(broken.module, broken.name, broken.broken(real))
    inner = (
        orders.test_any_order_of_events_ends_in_the_flows_of_the_final_state.hypothesis.inner_test
    )
    test = _quickly(given(orders.STATES, orders.STATES, orders.RANDOMS)(inner))
    with pytest.raises((AssertionError, LookupError)):
        test()


def test_addresses_whose_mentions_are_not_kept_are_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken = deaf(board.Board, "_mention")
    real = getattr(broken.module, broken.name)
    monkeypatch.setattr(broken.module, broken.name, broken.broken(real))
    with pytest.raises((AssertionError, LookupError)):
        orders.test_an_endpoint_that_becomes_another_services_address_is_left_out_meanwhile()
