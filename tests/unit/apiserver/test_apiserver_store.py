"""Revisions, history and watches, over generated sequences of writes."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovsnet.sandbox.apiserver.answers import list_page
from ovsnet.sandbox.apiserver.kinds import CONFIG_MAP, KINDS, SECRET, Kind
from ovsnet.sandbox.apiserver.request import ListOptions, VersionMatch
from ovsnet.sandbox.apiserver.selectors import parse_labels
from ovsnet.sandbox.apiserver.status import ApiError
from ovsnet.sandbox.apiserver.store import Key, Store
from ovsnet.sandbox.apiserver.watching import Cursor, EventType, Scope

Snapshot = dict[Key, tuple[int, str]]
"""Key to revision and colour: what a list shows."""

NAMESPACES = ("a", "b")
NAMES = ("x", "y", "z")
COLOURS = ("red", "blue")
SCOPES = (
    Scope(),
    Scope(namespace="a"),
    Scope(labels=parse_labels("colour=red")),
    Scope(namespace="b", labels=parse_labels("colour!=red")),
)


@dataclass(frozen=True)
class Step:
    kind: Kind
    key: Key
    colour: str | None
    """None deletes."""


steps = st.lists(
    st.builds(
        Step,
        st.sampled_from((CONFIG_MAP, SECRET)),
        st.tuples(st.sampled_from(NAMESPACES), st.sampled_from(NAMES)),
        st.sampled_from((*COLOURS, None)),
    ),
    max_size=40,
)


def take(store: Store, step: Step) -> bool:
    """Do a step; False if there is nothing to delete."""
    obj = {
        "metadata": {
            "namespace": step.key[0],
            "name": step.key[1],
            "uid": "u",
            "labels": {"colour": step.colour or ""},
        }
    }
    if step.colour is not None:
        store.write(step.kind, obj)
        return True
    present = store[step.kind].get(step.key)
    if present is None:
        return False
    store.remove(step.kind, present.decode())
    return True


def shown(items) -> Snapshot:
    return {item.key: (item.revision, item.labels["colour"]) for item in items}


def within(snapshot: Snapshot, scope: Scope) -> Snapshot:
    """What a scope shows of a snapshot, computed without any code of the server's."""
    wanted = {"colour=red": ("red",), "colour!=red": ("blue", "")}
    text = "" if not scope.labels else ("colour=red" if scope is SCOPES[2] else "colour!=red")
    return {
        key: value
        for key, value in snapshot.items()
        if (scope.namespace is None or key[0] == scope.namespace)
        and (not text or value[1] in wanted[text])
    }


def snapshots_of(store: Store, sequence: list[Step]) -> dict[int, Snapshot]:
    """Every state that the ConfigMaps go through, by revision, kept as plain dicts."""
    states = {store.revision: Snapshot()}
    current: Snapshot = {}
    for step in sequence:
        before = store.revision
        if not take(store, step):
            assert store.revision == before
            continue
        assert store.revision == before + 1
        if step.kind is CONFIG_MAP:
            current = dict(current)
            if step.colour is None:
                del current[step.key]
            else:
                current[step.key] = (store.revision, step.colour)
        states[store.revision] = current
    return states


@given(steps)
def test_every_past_state_can_be_listed(sequence):
    store = Store(KINDS)
    states = snapshots_of(store, sequence)
    for revision, state in states.items():
        listed = store[CONFIG_MAP].at(revision)
        assert shown(listed) == state
        assert [item.key for item in listed] == sorted(state)
        for namespace in NAMESPACES:
            expected = {k: v for k, v in state.items() if k[0] == namespace}
            assert shown(store[CONFIG_MAP].at(revision, namespace)) == expected


def replay(state: Snapshot, events, scope: Scope) -> Snapshot:
    """What a watcher knows after some events; every event must make sense to it."""
    known = dict(state)
    for event in events:
        key = event.object.key
        revision = event.object.revision
        assert all(revision > seen for seen, _ in known.values())
        match event.type:
            case EventType.ADDED:
                assert key not in known
            case EventType.MODIFIED | EventType.DELETED:
                assert key in known
        if event.type is EventType.DELETED:
            assert scope.covers(event.object)
            assert event.object.decode()["metadata"]["resourceVersion"] == str(revision)
            del known[key]
        else:
            known[key] = (revision, event.object.labels["colour"])
    return known


@given(steps, st.data())
def test_watches_from_any_revision_see_everything_once_in_order(sequence, data):
    store = Store(KINDS)
    states: dict[int, Snapshot] = {store.revision: {}}
    watchers: list[tuple[Scope, Cursor, list]] = []
    for step in sequence:
        if data.draw(st.booleans(), label="a watcher comes"):
            scope = data.draw(st.sampled_from(SCOPES))
            start = data.draw(st.sampled_from(sorted(states)))
            watchers.append((scope, Cursor(store[CONFIG_MAP], scope, start), [start]))
        take(store, step)
        states[store.revision] = shown(store[CONFIG_MAP].items())
        for _, cursor, log in watchers:
            if data.draw(st.booleans(), label="a watcher reads"):
                log.extend(cursor.advance())
    for scope, cursor, log in watchers:
        log.extend(cursor.advance())
        start, *events = log
        revisions = [event.object.revision for event in events]
        assert revisions == sorted(set(revisions))
        known = replay(within(states[start], scope), events, scope)
        assert known == within(states[store.revision], scope)
        assert cursor.advance() == []


@given(steps, st.integers(1, 6))
def test_a_short_history_answers_exactly_or_not_at_all(sequence, limit):
    store = Store(KINDS, history=limit)
    states = snapshots_of(store, sequence)
    served = 0
    for revision, state in states.items():
        if revision < store[CONFIG_MAP].compacted:
            for ask in (
                lambda r=revision: Cursor(store[CONFIG_MAP], Scope(), r),
                lambda r=revision: store[CONFIG_MAP].at(r),
            ):
                with pytest.raises(ApiError) as caught:
                    ask()
                assert (caught.value.code, caught.value.reason) == (410, "Expired")
        else:
            served += 1
            events = Cursor(store[CONFIG_MAP], Scope(), revision).advance()
            assert replay(state, events, Scope()) == states[store.revision]
    assert served >= min(limit, len(states))


def test_a_watch_that_is_up_to_date_survives_compaction_and_an_old_one_does_not():
    store = Store(KINDS)
    step = Step(CONFIG_MAP, ("a", "x"), "red")
    take(store, step)
    ready = Cursor(store[CONFIG_MAP], Scope(), store.revision)
    late = Cursor(store[CONFIG_MAP], Scope(), store.revision - 1)
    store.compact()
    assert ready.advance() == []
    with pytest.raises(ApiError, match="fell behind"):
        late.advance()
    with pytest.raises(ApiError, match="too old resource version"):
        Cursor(store[CONFIG_MAP], Scope(), store.revision - 1)
    take(store, step)
    assert [event.type for event in ready.advance()] == [EventType.MODIFIED]


def test_a_watch_from_a_revision_to_come_waits_for_it():
    store = Store(KINDS)
    cursor = Cursor(store[CONFIG_MAP], Scope(), store.revision + 1)
    take(store, Step(CONFIG_MAP, ("a", "x"), "red"))
    assert cursor.advance() == []
    take(store, Step(CONFIG_MAP, ("a", "y"), "red"))
    assert [event.object.key for event in cursor.advance()] == [("a", "y")]


@given(steps, steps, st.integers(1, 5), st.sampled_from(SCOPES))
def test_pages_show_the_state_of_the_first_page(sequence, meanwhile, limit, scope):
    store = Store(KINDS)
    snapshots_of(store, sequence)
    expected = within(shown(store[CONFIG_MAP].items()), scope)
    start = store.revision
    options = ListOptions(VersionMatch.NEWEST, 0, limit, None)
    seen: list[Key] = []
    pages: Snapshot = {}
    waiting = list(meanwhile)
    while True:
        page = list_page(store, CONFIG_MAP, scope, options)
        assert page.revision == start
        assert len(page.items) <= limit
        seen += [item.key for item in page.items]
        pages |= shown(page.items)
        if not scope.labels:
            assert page.remaining == len(expected) - len(seen)
        if page.token is None:
            break
        if waiting:
            take(store, waiting.pop())
        options = ListOptions(VersionMatch.EXACT, page.token.revision, limit, page.token)
    assert seen == sorted(expected)
    assert pages == expected


def test_a_page_whose_state_is_forgotten_is_gone():
    store = Store(KINDS)
    for name in NAMES:
        take(store, Step(CONFIG_MAP, ("a", name), "red"))
    first = list_page(store, CONFIG_MAP, Scope(), ListOptions(VersionMatch.NEWEST, 0, 1, None))
    take(store, Step(CONFIG_MAP, ("a", "x"), "blue"))
    store.compact()
    assert first.token is not None
    options = ListOptions(VersionMatch.EXACT, first.token.revision, 1, first.token)
    with pytest.raises(ApiError) as caught:
        list_page(store, CONFIG_MAP, Scope(), options)
    assert caught.value.code == 410
    assert "continue parameter is too old" in caught.value.message


def test_a_list_of_a_revision_to_come_is_refused():
    store = Store(KINDS)
    options = ListOptions(VersionMatch.NOT_OLDER_THAN, store.revision + 1, 0, None)
    with pytest.raises(ApiError) as caught:
        list_page(store, CONFIG_MAP, Scope(), options)
    assert (caught.value.code, caught.value.retry_after) == (504, 1)
