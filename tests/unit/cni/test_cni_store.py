"""The records against a model, with the agent dying between any two transactions."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ovsnet.cni.conf import Attachment, PodRef
from ovsnet.cni.ranges import NodeRanges
from ovsnet.cni.record import Record, State
from ovsnet.cni.store import AddressTaken, PortNamesTaken, RangeExhausted, Store, Usage
from ovsnet.names import port_names

RANGES = NodeRanges.of(["10.0.0.0/28", "fd00::/64"])
QUARANTINE = 30.0


def record(container: str, pod: str = "web", uid: str = "u") -> Record:
    return Record(
        Attachment(container, "eth0"),
        State.ADDING,
        "ovsnet",
        PodRef("shop", pod, uid),
        "/run/netns/x",
        "4:1",
        "boot",
    )


class Ledger(RuleBasedStateMachine):
    """Pods come and go in any order; the model says who may have which address when."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.path = Path(self.directory.name) / "agent.db"
        self.store = Store(self.path, QUARANTINE)
        self.now = 1000.0
        self.serial = 0
        self.held: dict[str, int] = {}
        self.resting: dict[int, float] = {}
        self.last = RANGES.first - 1

    def teardown(self) -> None:
        self.store.close()
        self.directory.cleanup()

    @rule()
    def come(self) -> None:
        self.serial += 1
        name = f"c{self.serial}"
        begun = self.store.begin(record(name, name, name))
        free = [
            offset
            for step in range(1, RANGES.size + 1)
            if (offset := RANGES.first + (self.last - RANGES.first + step) % RANGES.size)
            not in self.held.values()
            and self.resting.get(offset, 0) <= self.now
        ]
        if not free:
            with pytest.raises(RangeExhausted, match=f"of {RANGES.size}, {len(self.held)} are"):
                self.store.reserve(begun, RANGES, self.now)
            self.store.end(begun.attachment, self.now)
            return
        _, addresses = self.store.reserve(begun, RANGES, self.now)
        assert addresses.offset == free[0]
        self.held[name] = self.last = addresses.offset

    @precondition(lambda self: self.held)
    @rule(data=st.data(), superseded=st.booleans())
    def go(self, data: st.DataObject, superseded: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.held)))
        self.store.end(Attachment(name, "eth0"), self.now, superseded=superseded)
        self.resting[self.held.pop(name)] = self.now + QUARANTINE
        left = self.store.get(Attachment(name, "eth0"))
        assert (left is not None) == superseded
        assert left is None or (left.state, left.port, left.addresses) == (
            State.SUPERSEDED,
            None,
            (),
        )

    @rule(seconds=st.floats(0, 40))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def die_and_start(self) -> None:
        self.store.close()
        self.store = Store(self.path, QUARANTINE)

    @invariant()
    def counts_agree(self) -> None:
        resting = sum(1 for until in self.resting.values() if until > self.now)
        still = {o for o in self.held.values() if self.resting.get(o, 0) > self.now}
        assert not still
        usage = self.store.usage(RANGES, self.now)
        assert usage == Usage(len(self.held), resting, RANGES.size)

    @invariant()
    def every_holder_is_on_record(self) -> None:
        live = {r.attachment.container_id: r.offset for r in self.store.all() if r.addresses}
        assert live == self.held


TestLedger = Ledger.TestCase
TestLedger.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@pytest.fixture
def store(tmp_path: Path):
    with contextlib.closing(Store(tmp_path / "agent.db", QUARANTINE)) as opened:
        yield opened


def test_a_record_comes_back_as_it_was(store: Store):
    begun = store.begin(record("c"))
    store.delegate(begun.attachment, {"kind": "host-local"})
    held, addresses = store.reserve(begun, RANGES, 0)
    store.complete(begun.attachment, {"cniVersion": "1.1.0"})
    found = store.get(begun.attachment)
    assert found is not None
    assert (found.state, found.port) == (State.READY, port_names("shop", "web", "u")[0])
    assert found.addresses == held.addresses == tuple(addresses.text.split(","))
    assert (found.delegate, found.result) == ({"kind": "host-local"}, {"cniVersion": "1.1.0"})


def test_colliding_port_names_take_the_next_variant(store: Store):
    names = port_names("shop", "web", "u")
    for expected in names:
        serial = names.index(expected)
        assert store.begin(record(f"c{serial}")).port == expected
    with pytest.raises(PortNamesTaken):
        store.begin(record("one too many"))


def test_failed_attempts_choose_the_variant_until_one_succeeds(store: Store):
    names = port_names("shop", "web", "u")
    pod = record("c").pod
    for attempt in range(6):
        begun = store.begin(record("c"))
        assert begun.port == names[attempt % 4]
        store.failed_attempt(pod)
        store.end(begun.attachment, 0)
    store.complete(store.begin(record("c")).attachment, {})
    store.end(Attachment("c", "eth0"), 0)
    assert store.begin(record("c")).port == names[0]


def test_a_delegated_address_may_be_in_quarantine_but_not_in_use(store: Store):
    first = store.begin(record("a", "a", "a"))
    _, addresses = store.reserve(first, RANGES, 0)
    second = store.begin(record("b", "b", "b"))
    with pytest.raises(AddressTaken):
        store.hold(second, addresses)
    store.end(first.attachment, 0)
    assert store.hold(second, addresses).offset == addresses.offset


def test_quarantine_ends_when_the_clock_was_set_back(store: Store):
    for serial in range(RANGES.size):
        begun = store.begin(record(f"c{serial}", f"p{serial}", f"u{serial}"))
        store.reserve(begun, RANGES, 1e9)
        store.end(begun.attachment, 1e9)
    begun = store.begin(record("c"))
    assert store.reserve(begun, RANGES, 1000.0)


def test_a_file_of_another_version_is_refused(tmp_path: Path):
    import sqlite3

    path = tmp_path / "agent.db"
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(sqlite3.DatabaseError, match="version 99"):
        Store(path, QUARANTINE)
