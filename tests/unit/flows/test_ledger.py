"""The ledger: any order of changes ends in what putting everything in at once gives."""

import zlib

from hypothesis import given
from hypothesis import strategies as st

from ovsnet.flows.commons import Commons
from ovsnet.flows.fields import Field
from ovsnet.flows.flow import Block, Conjunction, Flow, Goto, Owner, OwnerKind, Term, block
from ovsnet.flows.ledger import Ledger
from ovsnet.names import Table

OWNERS = [Owner(OwnerKind.POLICY, f"shop/p{i}") for i in range(5)]

keys = st.tuples(st.sampled_from([Table.ROUTE, Table.COMMIT]), st.integers(1, 2), st.integers(1, 3))
conjunctive = st.lists(
    st.builds(Conjunction, st.integers(1, 3), st.integers(1, 2), st.just(2)),
    min_size=1,
    max_size=2,
    unique=True,
).map(lambda clauses: tuple(sorted(clauses)))
plain = st.sampled_from([(), (Goto(Table.OUTPUT),), (Goto(Table.STAMP),)])
flows = st.builds(
    lambda key, actions: Flow(key[0], key[1], (Term(Field.IN_PORT, key[2]),), actions),
    keys,
    st.one_of(conjunctive, plain),
)
blocks = st.builds(block, st.sampled_from(OWNERS), st.lists(flows, max_size=4))
changes = st.lists(
    st.tuples(st.lists(blocks, max_size=3), st.lists(st.sampled_from(OWNERS), max_size=2)),
    max_size=12,
)


def fingerprint(flow: Flow) -> int:
    return zlib.crc32(repr(flow).encode()) << 20


def merged_by_hand(state: dict[Owner, Block]) -> dict[object, Flow]:
    """The definition, written the slow way: all flows of all owners, gathered by key."""
    # An owner's own flows come added up already; see test_a_block_adds_up_its_own_flows.
    gathered: dict[object, list[Flow]] = {}
    for owner in sorted(state):
        for flow in state[owner].flows:
            gathered.setdefault((flow.table, flow.priority, flow.match), []).append(flow)
    result: dict[object, Flow] = {}
    for key, wanted in gathered.items():
        clauses = [a for f in wanted for a in f.actions]
        additive = all(f.actions and all(type(a) is Conjunction for a in f.actions) for f in wanted)
        if additive:
            cookie = min(f.cookie for f in wanted)
            actions = tuple(sorted(set(clauses), key=lambda c: (c.id, c.clause, c.of)))
            first = wanted[0]
            result[key] = Flow(first.table, first.priority, first.match, actions, cookie)
        else:
            result[key] = wanted[0]
    return result


@given(changes)
def test_any_sequence_of_changes_equals_computing_from_scratch(
    sequence: list[tuple[list[Block], list[Owner]]],
) -> None:
    ledger = Ledger(fingerprint, Commons(fingerprint), OWNERS[0])
    state: dict[Owner, Block] = {}
    switch: dict[object, Flow] = {}
    for new, gone in sequence:
        before = dict(switch)
        revision = ledger.revision
        delta = ledger.update(new, gone)
        for owner in gone:
            state.pop(owner, None)
        for one in new:
            state[one.owner] = one
        for flow in delta.deletes:
            assert switch.pop(flow.key) == flow
        for flow in delta.adds:
            assert switch.get(flow.key) != flow, "a flow that is there already was sent again"
            switch[flow.key] = flow
        expected = merged_by_hand(state)
        assert dict(ledger.flows) == expected
        assert switch == expected
        assert ledger.digest == (sum(map(fingerprint, expected.values())) & (1 << 64) - 1 or 1)
        assert (delta.revision > revision) == bool(delta) == (before != switch)

    fresh = Ledger(fingerprint, Commons(fingerprint), OWNERS[0])
    fresh.update(state.values())
    assert dict(fresh.flows) == dict(ledger.flows)
    assert fresh.digest == ledger.digest
    assert fresh.conflicts() == ledger.conflicts()


def test_a_block_adds_up_its_own_flows() -> None:
    def clause(number: int) -> Flow:
        return Flow(Table.ROUTE, 1, (), (Conjunction(7, number, 2),))

    made = block(OWNERS[0], [clause(2), clause(1), Flow(Table.COMMIT, 1, ()), clause(2)])

    assert [f.actions for f in made.flows] == [(Conjunction(7, 1, 2), Conjunction(7, 2, 2)), ()]
    assert {f.cookie for f in made.flows} == {OWNERS[0].cookie}


def test_owners_that_contradict_each_other_are_named() -> None:
    ledger = Ledger(fingerprint, Commons(fingerprint), OWNERS[0])
    forward = Flow(Table.ROUTE, 1, (), (Goto(Table.OUTPUT),))
    drop = Flow(Table.ROUTE, 1, ())
    ledger.update([block(OWNERS[1], [drop]), block(OWNERS[0], [forward])])

    (conflict,) = ledger.conflicts()
    assert (conflict.winner, conflict.loser) == (OWNERS[0], OWNERS[1])
    assert [f.actions for f in ledger.flows.values()] == [(Goto(Table.OUTPUT),)]

    ledger.update(gone=[OWNERS[0]])
    assert ledger.conflicts() == ()
    assert [f.actions for f in ledger.flows.values()] == [()]


def test_the_commons_without_the_block_about_itself_are_part_of_a_ledger() -> None:
    commons = Commons(fingerprint)
    ledger = Ledger(fingerprint, commons, OWNERS[0])
    about_itself = block(OWNERS[0], [Flow(Table.ROUTE, 1, (Term(Field.IN_PORT, 1),))])
    about_another = block(OWNERS[1], [Flow(Table.ROUTE, 1, (Term(Field.IN_PORT, 2),))])

    delta = ledger.follow(commons.update([about_itself, about_another]))

    assert delta.adds == about_another.flows
    assert dict(ledger.flows) == {f.key: f for f in about_another.flows}
    assert len(ledger.flows) == 1
    assert ledger.digest == fingerprint(*about_another.flows)
    assert set(ledger.owners) == {OWNERS[1]}


def test_a_key_of_the_commons_that_changes_hands_is_written_and_not_deleted() -> None:
    commons = Commons(fingerprint)
    ledger = Ledger(fingerprint, commons, OWNERS[4])
    contested = Flow(Table.ROUTE, 1, ())
    before = block(OWNERS[0], [contested])
    after = block(OWNERS[1], [contested])
    ledger.follow(commons.update([before]))

    delta = ledger.follow(commons.update([after], gone=[OWNERS[0]]))

    assert (delta.adds, delta.deletes) == (after.flows, ())
    assert dict(ledger.flows) == {contested.key: after.flows[0]}


def test_the_same_block_again_changes_nothing() -> None:
    ledger = Ledger(fingerprint, Commons(fingerprint), OWNERS[0])
    one = block(OWNERS[0], [Flow(Table.ROUTE, 1, ())])
    assert ledger.update([one])
    again = ledger.update([one])
    assert not again
    assert again.revision == ledger.revision == 1
