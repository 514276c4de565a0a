"""The ledger: any order of changes ends in what putting everything in at once gives."""

import zlib

import pytest
from hypothesis import given, settings
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
    ledger = Ledger(fingerprint, (Commons(fingerprint),), OWNERS[0])
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

    fresh = Ledger(fingerprint, (Commons(fingerprint),), OWNERS[0])
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
    ledger = Ledger(fingerprint, (Commons(fingerprint),), OWNERS[0])
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
    ledger = Ledger(fingerprint, (commons,), OWNERS[0])
    about_itself = block(OWNERS[0], [Flow(Table.ROUTE, 1, (Term(Field.IN_PORT, 1),))])
    about_another = block(OWNERS[1], [Flow(Table.ROUTE, 1, (Term(Field.IN_PORT, 2),))])

    delta = ledger.follow(commons.update([about_itself, about_another]))

    assert delta.adds == about_another.flows
    assert dict(ledger.flows) == {f.key: f for f in about_another.flows}
    assert len(ledger.flows) == 1
    assert ledger.digest == fingerprint(*about_another.flows)
    assert set(ledger.owners) == {OWNERS[1]}


def test_a_nodes_own_flow_may_stand_where_others_have_one_about_it() -> None:
    """Others send packets for its range to it; it drops those that no pod of its own is for."""
    commons = Commons(fingerprint)
    towards = Flow(Table.ROUTE, 1, (Term(Field.IN_PORT, 1),), (Goto(Table.OUTPUT),))
    other = Flow(Table.ROUTE, 1, (Term(Field.IN_PORT, 2),), (Goto(Table.OUTPUT),))
    about_it, about_other = block(OWNERS[0], [towards]), block(OWNERS[1], [other])
    commons.update([about_it, about_other])
    ledger = Ledger(fingerprint, (commons, Commons(fingerprint)), OWNERS[0])
    own = block(OWNERS[2], [Flow(towards.table, towards.priority, towards.match)])
    ledger.update([own])

    wanted = {flow.key: flow for flow in (*own.flows, *about_other.flows)}
    assert dict(ledger.flows) == wanted
    assert len(ledger.flows) == 2
    assert ledger.digest == sum(map(fingerprint, wanted.values()))
    commons.update(gone=[OWNERS[0]])
    assert dict(ledger.flows) == wanted


def test_a_key_of_the_commons_that_changes_hands_is_written_and_not_deleted() -> None:
    commons = Commons(fingerprint)
    ledger = Ledger(fingerprint, (commons,), OWNERS[4])
    contested = Flow(Table.ROUTE, 1, ())
    before = block(OWNERS[0], [contested])
    after = block(OWNERS[1], [contested])
    ledger.follow(commons.update([before]))

    delta = ledger.follow(commons.update([after], gone=[OWNERS[0]]))

    assert (delta.adds, delta.deletes) == (after.flows, ())
    assert dict(ledger.flows) == {contested.key: after.flows[0]}


def test_the_same_block_again_changes_nothing() -> None:
    ledger = Ledger(fingerprint, (Commons(fingerprint),), OWNERS[0])
    one = block(OWNERS[0], [Flow(Table.ROUTE, 1, ())])
    assert ledger.update([one])
    again = ledger.update([one])
    assert not again
    assert again.revision == ledger.revision == 1


SINGLE = [Owner(OwnerKind.POLICY, f"grant {i}") for i in range(4)]
clauses = st.builds(
    lambda key, owner, clause: Flow(
        key[0],
        key[1],
        (Term(Field.IN_PORT, key[2]),),
        (Conjunction(owner + 1, clause, 2),),
        SINGLE[owner].cookie,
    ),
    keys,
    st.integers(0, 3),
    st.integers(1, 2),
)
single_changes = st.lists(
    st.tuples(
        st.lists(blocks, max_size=2),
        st.lists(st.sampled_from(OWNERS), max_size=1),
        st.lists(clauses, max_size=6, unique_by=lambda f: (f.key, f.cookie)),
        st.integers(0, 255),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(single_changes, st.sampled_from([1, 2, 2048]))
def test_single_flows_add_up_with_blocks_in_any_order(sequence, most: int) -> None:
    """However many clauses a flow may carry, none is lost and none stays."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ovsnet.flows.ledger.MOST_CLAUSES", most)
        ledger = Ledger(fingerprint, (Commons(fingerprint),), OWNERS[0])
        state: dict[Owner, Block] = {}
        single: dict[tuple[object, int], Flow] = {}
        switch: dict[object, Flow] = {}
        for new, gone, coming, going in sequence:
            leaving = {k: f for i, (k, f) in enumerate(single.items()) if going >> i & 1}
            entering = {(f.key, f.cookie): f for f in coming}
            # What is there already leaves before it comes again.
            leaving |= {k: single[k] for k in entering if k in single}
            delta = ledger.update(new, gone, leaving.values(), entering.values())
            single = {k: f for k, f in single.items() if k not in leaving} | entering
            for owner in gone:
                state.pop(owner, None)
            state |= {one.owner: one for one in new}
            for flow in delta.deletes:
                assert switch.pop(flow.key) == flow
            switch |= {flow.key: flow for flow in delta.adds}
            assert dict(ledger.flows) == switch
            assert ledger.digest == (sum(map(fingerprint, switch.values())) & (1 << 64) - 1 or 1)
        assert all(len(f.actions) <= most or f.cookie in OWN_COOKIES for f in switch.values())

        fresh = Ledger(fingerprint, (Commons(fingerprint),), OWNERS[0])
        fresh.update(state.values(), entering=single.values())
        assert dict(fresh.flows) == switch
        said = {(f.table, f.priority, port(f), a) for f in switch.values() for a in f.actions}
        every = [f for b in state.values() for f in b.flows] + list(single.values())
        assert said == wanted(every)


OWN_COOKIES = {owner.cookie for owner in OWNERS}


def port(flow: Flow) -> Term:
    return next(t for t in flow.match if t.field is Field.IN_PORT)


def wanted(every: list[Flow]) -> set[tuple[object, ...]]:
    """The actions of every key: all clauses, or those of the first owner with others."""
    by_key: dict[object, list[Flow]] = {}
    for flow in every:
        by_key.setdefault(flow.key, []).append(flow)
    found: set[tuple[object, ...]] = set()
    for flows in by_key.values():
        conjunctive = all(f.actions and type(f.actions[0]) is Conjunction for f in flows)
        names = {owner.cookie: owner.name for owner in OWNERS}
        first = min(flows, key=lambda f: (f.cookie not in names, names.get(f.cookie, ""), f.cookie))
        for flow in flows if conjunctive else [first]:
            found |= {(flow.table, flow.priority, port(flow), a) for a in flow.actions}
    return found


def test_more_clauses_than_a_message_holds_stand_in_several_flows_for_the_same_packets() -> None:
    ledger = Ledger(fingerprint, (Commons(fingerprint),), OWNERS[0])
    match = (Term(Field.IN_PORT, 1),)
    many = [
        Flow(Table.ROUTE, 1, match, (Conjunction(n, 1, 2),), SINGLE[0].cookie + n)
        for n in range(1, 5001)
    ]
    ledger.update(entering=many)

    flows = list(ledger.flows.values())
    assert [len(flow.actions) for flow in flows] == [2048, 2048, 904]
    assert len({tuple((t.field, t.mask) for t in flow.match) for flow in flows}) == 3
    assert {t.value for f in flows for t in f.match if t.field is Field.REG7} == {0}

    ledger.update(leaving=many[1:])
    assert [flow.actions for flow in ledger.flows.values()] == [many[0].actions]
