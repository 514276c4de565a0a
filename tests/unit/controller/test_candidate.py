"""The thread that looks after the Lease, and what the loop is told of it."""

from __future__ import annotations

import queue
import threading
import time
from concurrent.futures import Future

import msgspec
import pytest

from ovsnet.api.lease import ConflictError, Lease, LeaseError
from ovsnet.controller.candidate import Alone, Candidate, identity_of
from ovsnet.controller.leadership import Terms
from ovsnet.controller.notices import Admitted, Fenced
from ovsnet.controller.results import Leads, Ready

TERMS = Terms(seconds=3, renew=0.02, look=0.01, patience=20.0)
PATIENCE = 20


class Store:
    """A Lease in memory. `wrong` is raised by the next requests; none gets there while it is not
    `open`, and no answer comes back while it is not `free`.
    """

    name = "net/c"

    def __init__(self):
        self.lease = None
        self.version = 0
        self.wrong = None
        self.asked = queue.SimpleQueue()
        self.open, self.free = threading.Event(), threading.Event()
        self.open.set()
        self.free.set()

    def read(self):
        self._begin("read")
        return self.lease

    def write(self, lease):
        self._begin("write")
        if lease.version != (self.lease.version if self.lease else ""):
            raise ConflictError("another version")
        written = self.put(lease)
        assert self.free.wait(PATIENCE)
        return written

    def put(self, lease):
        self.version += 1
        metadata = {"resourceVersion": str(self.version)}
        self.lease = msgspec.structs.replace(lease, metadata=metadata)
        return self.lease

    def _begin(self, what):
        self.asked.put(what)
        assert self.open.wait(PATIENCE)
        if self.wrong:
            raise self.wrong


class Clock:
    """Runs on, and may be set forward, as by the time for which a process was stopped."""

    def __init__(self):
        self.ahead = 0.0

    def __call__(self):
        return time.monotonic() + self.ahead


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def changes():
    return queue.SimpleQueue()


@pytest.fixture
def candidate(store, clock, changes):
    made = Candidate("me", TERMS, store, clock, lambda: changes.put(1))
    yield made
    store.free.set()
    store.open.set()
    made.stop()


def wait_for(check):
    until = time.monotonic() + PATIENCE
    while not check():
        assert time.monotonic() < until
        time.sleep(0.005)


def leading(candidate):
    candidate(Ready(1, 1))
    wait_for(lambda: candidate.term() is not None)


def test_it_takes_no_part_before_the_cluster_is_known(candidate, store, changes):
    assert candidate.term() is None
    assert store.asked.empty()
    leading(candidate)
    assert candidate.term() == 1
    assert changes.get(timeout=PATIENCE)
    leadership = candidate.leadership()
    assert (leadership.leads, leadership.leader, leadership.term) == (True, "me", 1)
    assert leadership.lease == "net/c"


def test_it_goes_on_while_there_is_no_answer_and_stands_by_when_another_holds_the_lease(
    candidate, store
):
    leading(candidate)
    store.wrong = LeaseError("away")
    for _ in range(5):
        store.asked.get(timeout=PATIENCE)
    assert candidate.term() == 1
    store.put(Lease("other", 3, 1))
    store.wrong = None
    wait_for(lambda: candidate.term() is None)
    assert candidate.leadership().leader == "other"


def test_one_whose_process_was_stopped_says_nothing_before_it_has_asked(candidate, store, clock):
    """The answer to what it asked before it was stopped does not count."""
    leading(candidate)
    # A renewal is done, and its answer waits for the process to go on. Then another takes over.
    store.free.clear()
    before = store.version
    wait_for(lambda: store.version > before)
    clock.ahead += 1000
    store.put(msgspec.structs.replace(store.lease, holder="other", transitions=1))
    asked = Future()
    thread = threading.Thread(target=lambda: asked.set_result(candidate.term()))
    thread.start()
    thread.join(0.2)
    assert not asked.done()
    store.open.clear()
    store.free.set()
    thread.join(0.2)
    assert not asked.done()
    store.open.set()
    assert asked.result(PATIENCE) is None
    thread.join()


def test_one_that_was_stopped_while_the_api_server_is_away_goes_on(candidate, store, clock):
    leading(candidate)
    store.wrong = LeaseError("away")
    clock.ahead += 1000
    assert candidate.term() == 1


def test_it_gives_the_lease_back_at_the_end(candidate, store):
    leading(candidate)
    candidate.stop()
    assert store.lease.holder == ""
    assert candidate.term() is None


def test_one_that_stands_by_gives_nothing_back(candidate, store):
    store.put(Lease("other", 60, 7))
    candidate(Ready(1, 1))
    wait_for(lambda: candidate.leadership().leader == "other")
    candidate.stop()
    assert store.lease.holder == "other"


def test_switches_that_have_seen_a_later_term_make_it_raise_its_own(candidate, store):
    leading(candidate)
    candidate(Leads(1))
    candidate(Admitted("n1", 1, frozenset()))
    candidate(Fenced("n2", 1, "stale", 40))
    time.sleep(0.1)
    assert candidate.term() == 1, "one of two is not more than half"
    candidate(Fenced("n3", 1, "stale", 40))
    wait_for(lambda: candidate.term() == 41)
    assert store.lease.transitions == 40


def test_a_fault_of_its_own_does_not_end_it(candidate, store):
    leading(candidate)
    store.wrong = RuntimeError("broken on purpose")
    for _ in range(3):
        store.asked.get(timeout=PATIENCE)
    store.wrong = None
    before = store.version
    wait_for(lambda: store.version > before + 2)
    assert candidate.term() == 1


def test_where_there_is_no_election_one_leads():
    alone = Alone(7)
    alone(Ready(1, 1))
    alone.refresh()
    alone.stop()
    assert alone.term() == 7
    assert alone.leadership() is None


def test_the_identity_has_the_pod_first():
    assert identity_of("c-1", "192.0.2.1", "5f") == "c-1_192.0.2.1_5f"
    assert identity_of("c-1", "", "5f") == "c-1_5f"
