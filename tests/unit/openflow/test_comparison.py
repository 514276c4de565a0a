"""Applying the difference to what a switch has yields what it should have, and no more."""

from flow_strategies import flow_sets
from hypothesis import given
from hypothesis import strategies as st

from ovsnet.controller.comparison import compare
from ovsnet.controller.openflow.decode import ForeignFlow
from ovsnet.flows.flow import Flow, Owner, OwnerKind
from ovsnet.flows.stamp import STAMP_KEY, stamp_flow
from ovsnet.names import Table

FOREIGN = ForeignFlow(200, 1, b"raw", 0, "unknown field")


@given(flow_sets(max_size=12), st.data())
def test_the_difference_leads_to_the_desired_flows(universe, data):
    kept = st.sets(st.sampled_from(universe)) if universe else st.just(set())
    present = {f.key: f for f in data.draw(kept)}
    desired = {f.key: f for f in data.draw(kept)}
    for key in data.draw(st.sets(st.sampled_from(sorted(present)))) if present else ():
        table, priority, match = key
        present[key] = Flow(table, priority, match, present[key].actions, cookie=1)
    passed_over = data.draw(kept)
    passed_over_keys = {f.key for f in passed_over}

    found = compare([*present.values(), stamp_flow(5)], desired, STAMP_KEY, passed_over_keys)

    after = dict(present)
    for key in found.deletes:
        del after[key]
    after.update((f.key, f) for f in found.adds)
    looked_at = {*present, *desired} - passed_over_keys
    assert {k: f for k, f in after.items() if k in looked_at} == {
        k: f for k, f in desired.items() if k in looked_at
    }
    assert not {f.key for f in found.adds} & set(found.deletes)
    untouched = [f for k, f in present.items() if k in looked_at and desired.get(k) == f]
    assert found.equal == len(untouched)
    assert not set(untouched) & set(found.adds)
    assert found.missing + found.changed == len(found.adds)


def test_strangers_are_told_from_flows_of_an_earlier_controller():
    ours = Flow(Table.ROUTE, 1, (), (), Owner(OwnerKind.POD, "a/b").cookie)
    stranger = Flow(Table.ROUTE, 2, (), (), 0x1234)
    found = compare([ours, stranger, FOREIGN], {}, STAMP_KEY)
    assert found.strangers == (stranger, FOREIGN)
    assert found.stale == 1
    assert set(found.deletes) == {ours.key, stranger.key}
    assert found.foreign == (FOREIGN,)


def test_a_foreign_flow_in_place_of_ours_is_replaced_and_not_deleted():
    ours = Flow(Table.ROUTE, 1, ())
    foreign = ForeignFlow(Table.ROUTE, 1, b"raw", 0, "learn", ours.key)
    found = compare([foreign], {ours.key: ours}, STAMP_KEY)
    assert found.adds == (ours,)
    assert (found.changed, found.missing, found.foreign, found.strangers) == (1, 0, (), ())
    assert not compare([foreign], {ours.key: ours}, STAMP_KEY, {ours.key})


def test_equal_is_no_difference():
    ours = Flow(Table.ROUTE, 1, ())
    assert not compare([ours, stamp_flow(3)], {ours.key: ours}, STAMP_KEY)
