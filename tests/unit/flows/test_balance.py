"""How connections are shared out among endpoints: every slot leads to one of them, and each has its
even share of the slots.
"""

from __future__ import annotations

import random

import pytest

from ovsnet.flows.balance import GROUPS, MOST_ENDPOINTS, choose_among, spread, spread_block
from ovsnet.flows.flow import Flow, Goto, Group, SetField
from ovsnet.flows.registers import COUNT, INDEX, SLOT
from ovsnet.flows.simulator import Switch, udp
from ovsnet.names import Table

_RANDOM = random.Random(4)
COUNTS = [
    *range(2, 66),
    *(power + beside for power in (128, 256, 512, 1024, 2048) for beside in (-1, 0, 1)),
    *sorted(_RANDOM.sample(range(66, MOST_ENDPOINTS), 20)),
    MOST_ENDPOINTS - 1,
    MOST_ENDPOINTS,
]
PACKET = udp("10.244.1.3", "10.96.0.1", 1000, 53).on(3)


def slots_of(flow: Flow) -> range:
    """The slots that a flow is for: a run that begins at a multiple of its length."""
    (term,) = (t for t in flow.match if t.field is SLOT.bits.field)
    free = SLOT.mask & ~(SLOT.mask if term.mask is None else term.mask)
    first, run = term.value >> SLOT.bits.offset, (free >> SLOT.bits.offset) + 1
    assert run & run - 1 == 0
    assert first % run == 0
    return range(first, first + run)


def index_of(flow: Flow) -> int:
    """The number of the endpoint that a flow leads to."""
    writes, goto = flow.actions
    assert isinstance(writes, SetField)
    assert goto == Goto(Table.ENDPOINT)
    assert writes == INDEX.set(writes.value >> INDEX.bits.offset)
    return writes.value >> INDEX.bits.offset


def slots_for(count: int) -> int:
    """How many slots there are for so many endpoints, as groups choose them."""
    trace = choosing(count).trace(PACKET, start=Table.BALANCE)
    slots = 1
    for choice in trace.choices:
        slots *= choice.of
    return slots


def choosing(count: int) -> Switch:
    """A switch that chooses one of so many endpoints for every packet."""
    return Switch([Flow(Table.BALANCE, 0, (), choose_among(count))], [3])


@pytest.mark.parametrize("count", COUNTS)
def test_every_slot_leads_to_one_endpoint_and_each_has_its_share(count: int) -> None:
    flows = list(spread(count))
    owner: dict[int, int] = {}
    for flow in flows:
        assert (flow.table, COUNT.matches(count) in flow.match) == (Table.SPREAD, True)
        for slot in slots_of(flow):
            assert slot not in owner, "two flows want it"
            owner[slot] = index_of(flow)
    slots = slots_for(count)
    assert owner.keys() == set(range(slots))
    shares = [0] * count
    for index in owner.values():
        shares[index] += 1
    assert max(shares) - min(shares) <= 1
    even = slots / count
    assert all(abs(share - even) <= even / 16 for share in shares)


def test_flows_for_different_numbers_of_endpoints_never_meet() -> None:
    keys = [flow.key for count in COUNTS for flow in spread(count)]
    assert len(set(keys)) == len(keys)
    for count in COUNTS[:20]:
        assert len({flow.priority for flow in spread(count)}) == 1
        assert {flow.key for flow in spread_block(count).flows} == {f.key for f in spread(count)}


@pytest.mark.parametrize("count", [2, 3, 16, 17, 255, 256, 257, 3000, MOST_ENDPOINTS])
def test_groups_choose_every_slot(count: int) -> None:
    switch = choosing(count)
    sizes = [choice.of for choice in switch.trace(PACKET, start=Table.BALANCE).choices]
    slots = slots_for(count)
    tried = range(slots) if slots <= 256 else [0, 1, slots - 1, *_RANDOM.sample(range(slots), 200)]
    for slot in tried:
        choices, rest = [], slot
        for size in reversed(sizes):
            rest, choice = divmod(rest, size)
            choices.insert(0, choice)
        trace = switch.trace(PACKET, choices=tuple(choices), start=Table.BALANCE)
        packet = trace.steps[-1].packet
        assert trace.steps[-1].table is Table.SPREAD
        assert packet[SLOT.bits.field] & SLOT.mask == slot << SLOT.bits.offset
        assert packet[COUNT.bits.field] & COUNT.mask == count << COUNT.bits.offset


def test_few_groups_are_enough_for_all_services() -> None:
    used = {action for count in COUNTS for action in choose_among(count)}
    ids = [group.id for group in GROUPS]
    assert len(set(ids)) == len(ids) <= 8
    assert {a.id for a in used if isinstance(a, Group)} <= set(ids)


@pytest.mark.parametrize("count", [-1, 0, 1, MOST_ENDPOINTS + 1])
def test_there_is_nothing_to_choose_among_one_and_not_among_too_many(count: int) -> None:
    for made in (choose_among, spread_block):
        with pytest.raises(ValueError, match="expected 2 to"):
            made(count)
