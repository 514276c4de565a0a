"""The election: many candidates, one Lease, requests and processes as slow as they like."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovsnet.api.lease import Lease
from ovsnet.controller.leadership import (
    Elector,
    Look,
    Standing,
    Terms,
    Wait,
    Write,
    is_later,
    outbidding,
)

WALL = datetime(2025, 1, 31, tzinfo=UTC)
TERMS = Terms()
WHOLE = 2**64


class Server:
    """The API server's one Lease. Every version is kept, to see who ever led under which term."""

    def __init__(self) -> None:
        self.lease: Lease | None = None
        self.versions = itertools.count(1)
        self.held: dict[int, set[str]] = {}

    def write(self, lease: Lease) -> Lease | None:
        """The Lease as it is then; None: a conflict."""
        present = self.lease.version if self.lease else ""
        if lease.version != present:
            return None
        stamped = {"resourceVersion": str(next(self.versions))}
        self.lease = msgspec.structs.replace(lease, metadata=stamped)
        return self.lease

    def delete(self) -> None:
        self.lease = None


class Candidate:
    """An elector with its own clock, which runs `ahead` of the world's and never is set."""

    def __init__(self, play: Play, number: int, elector: Elector, ahead: float) -> None:
        self.play = play
        self.number = number
        self.elector = elector
        self.ahead = ahead
        self.stopped_until = 0.0
        self.dead = False
        self.led: list[int] = []
        self.seen: Lease | None = None

    @property
    def clock(self) -> float:
        return self.play.now + self.ahead

    def act(self) -> None:
        """Do the next thing, now or when it is woken."""
        if self.dead:
            return
        if self.play.now < self.stopped_until:
            self.play.at(self.stopped_until, self.act)
            return
        step = self.elector.next(self.clock, WALL + timedelta(seconds=self.ahead))
        if isinstance(step, Wait):
            assert step.until > self.clock
            # Sums of floats may fall a little short of it.
            self.play.at(step.until - self.ahead + 1e-6, self.act)
            return
        self._send(step)

    def _send(self, step: Look | Write) -> None:
        there, back, lost = self.play.ways()
        began = self.clock

        def arrive() -> None:
            server = self.play.server
            if lost == "there":
                answer = ("failed", None)
            elif isinstance(step, Look):
                answer = ("seen", server.lease)
            else:
                written = server.write(step.lease)
                answer = ("conflict", None) if written is None else ("written", written)
            if lost == "back":
                answer = ("failed", None)
            self.play.at(self.play.now + back, lambda: receive(*answer))

        def receive(what: str, lease: Lease | None) -> None:
            if self.dead:
                return
            if self.play.now < self.stopped_until:
                self.play.at(self.stopped_until, lambda: receive(what, lease))
                return
            match what:
                case "seen":
                    self.seen = lease
                    self.elector.seen(lease, self.clock)
                case "written":
                    assert lease is not None
                    self.elector.written(lease, began)
                case "conflict":
                    self.elector.conflicted(self.clock)
                case _:
                    self.elector.failed(self.clock)
            self.play.look_at(self)
            self.act()

        self.play.at(self.play.now + there, arrive)


class Play:
    """Candidates, the Lease, and time. `ways` says how long a request's way there and back takes,
    and whether it is lost.
    """

    def __init__(self, ways: Callable[[], tuple[float, float, str]]) -> None:
        self.now = 0.0
        self.server = Server()
        self.ways = ways
        self.candidates: list[Candidate] = []
        self.terms: dict[int, int] = {}
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def add(self, ahead: float = 0.0, terms: Terms = TERMS) -> Candidate:
        number = len(self.candidates)
        made = Candidate(self, number, Elector(f"c{number}", terms), ahead)
        self.candidates.append(made)
        self.at(self.now, made.act)
        return made

    def at(self, when: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._events, (max(when, self.now), next(self._order), what))

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while self._events and self._events[0][0] <= until:
            self.now, _, what = heapq.heappop(self._events)
            what()
        self.now = until

    def look_at(self, candidate: Candidate) -> None:
        """No two ever lead under the same term, whatever they know of each other."""
        standing = candidate.elector.standing
        if not standing.leads:
            return
        owner = self.terms.setdefault(standing.term, candidate.number)
        assert owner == candidate.number, f"two led under term {standing.term}"
        if candidate.led[-1:] != [standing.term]:
            assert not candidate.led or candidate.led[-1] < standing.term
            candidate.led.append(standing.term)

    @property
    def leaders(self) -> list[int]:
        return [c.number for c in self.candidates if not c.dead and c.elector.standing.leads]


def at_once() -> tuple[float, float, str]:
    return 0.01, 0.01, ""


def never() -> tuple[float, float, str]:
    return 0.5, 0.5, "there"


def settled(candidates: int = 3) -> Play:
    play = Play(at_once)
    for number in range(candidates):
        play.add(ahead=1000.0 * number)
    play.run(10)
    assert len(play.leaders) == 1
    return play


def others(play: Play, leader: int) -> list[Candidate]:
    return [candidate for candidate in play.candidates if candidate.number != leader]


ways = st.tuples(
    st.floats(0, 8),
    st.floats(0, 8),
    st.sampled_from(["", "", "", "", "there", "back"]),
)
happenings = st.lists(
    st.tuples(
        st.floats(0, 5),
        st.sampled_from(["stop", "kill", "add", "release"]),
        st.integers(0, 9),
        st.floats(0, 20),
    ),
    max_size=12,
)


@settings(deadline=None, max_examples=150)
@given(
    st.data(),
    st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=4),
    happenings,
    st.lists(ways, min_size=1, max_size=60),
)
def test_no_two_ever_lead_under_the_same_term_and_in_the_end_one_leads(
    data, clocks, events, delays
):
    """Requests take long, arrive late or not at all; processes stop, die, start and hand over."""
    left = iter(delays)
    play = Play(lambda: next(left, at_once()))
    for ahead in clocks:
        play.add(ahead)
    for pause, what, number, seconds in events:
        play.run(pause)
        candidate = play.candidates[number % len(play.candidates)]
        match what:
            case "stop":
                candidate.stopped_until = play.now + seconds
            case "kill":
                candidate.dead = True
            case "add":
                play.add(seconds * 1000)
            case "release" if not candidate.dead:
                released = candidate.elector.release()
                candidate.dead = True
                if released is not None:
                    play.at(play.now + seconds, lambda lease=released: play.server.write(lease))
    play.add()
    # All delays end, everybody is awake, and the Lease of one that has died runs out.
    for _ in range(60):
        play.run(10)
        if next(left, None) is None:
            break
    play.run(60)
    assert len(play.leaders) == 1
    leader = play.candidates[play.leaders[0]]
    assert play.server.lease is not None
    assert play.server.lease.holder == f"c{leader.number}"
    for other in play.candidates:
        if not other.dead:
            assert other.elector.standing.holder == f"c{leader.number}"
            assert other.elector.standing.term == leader.elector.standing.term


def test_the_first_takes_term_1_and_keeps_it():
    play = settled()
    play.run(1000)
    assert play.terms == {1: play.leaders[0]}


def test_a_dead_leader_is_followed_when_its_lease_is_over_and_not_before():
    play = settled()
    (old,) = play.leaders
    play.candidates[old].dead = True
    play.run(TERMS.seconds - TERMS.renew - 0.1)
    assert play.leaders == []
    # Its last renewal was seen within `look`, and a request takes 0.02 s both ways.
    play.run(TERMS.renew + TERMS.look + 0.2)
    (new,) = play.leaders
    assert new != old
    assert play.candidates[new].elector.standing.term == 2


def test_a_lease_that_was_given_back_is_taken_at_the_next_look():
    play = settled()
    (old,) = play.leaders
    released = play.candidates[old].elector.release()
    assert released is not None
    assert released.holder == ""
    play.candidates[old].dead = True
    assert play.server.write(released)
    play.run(TERMS.look + 0.1)
    assert play.leaders
    assert play.leaders != [old]


def test_a_leader_goes_on_without_the_api_server_and_stays_when_it_is_back():
    play = settled()
    (leader,) = play.leaders
    play.ways = never
    play.run(600)
    assert play.leaders == [leader]
    play.ways = at_once
    play.run(60)
    assert play.leaders == [leader]
    assert play.terms == {1: leader}


def test_who_cannot_look_for_long_does_not_take_what_it_did_not_see_run_out():
    play = settled(2)
    (leader,) = play.leaders
    (other,) = others(play, leader)
    leading = play.candidates[leader]
    while other.elector.standing.term and play.server.lease != other.seen:
        play.run(0.01)
    # The one that stands by is the first to be answered when the API server is back.
    leading.stopped_until = play.now + 102
    play.ways = never
    play.run(100)
    play.ways = at_once
    play.run(10)
    assert play.leaders == [leader]
    assert play.terms == {1: leader}


def test_a_leader_that_was_stopped_stands_by_with_the_first_answer():
    play = settled()
    (old,) = play.leaders
    stopped = play.candidates[old]
    stopped.stopped_until = play.now + 20
    play.run(19)
    assert stopped.elector.standing.leads
    (new,) = set(play.leaders) - {old}
    play.run(1.1)
    assert play.leaders == [new]
    assert stopped.elector.standing.holder == f"c{new}"


def test_a_leader_whose_lease_was_deleted_goes_on_and_makes_it_anew_with_a_later_term():
    play = settled()
    play.server.delete()
    for _ in range(300):
        play.run(0.01)
        assert play.leaders
    assert play.server.lease is not None
    assert play.server.lease.transitions == 1
    assert len(play.leaders) == 1


def test_a_lease_that_was_made_by_hand_is_taken():
    play = Play(at_once)
    play.server.write(Lease(holder="", seconds=0, transitions=41))
    play.add()
    play.run(1)
    assert play.terms == {43: 0}


def test_of_two_that_take_it_at_once_one_gets_it():
    play = Play(at_once)
    play.add()
    play.add()
    play.run(0.1)
    assert len(play.leaders) == 1


def test_a_write_whose_answer_is_lost_counts_once_it_is_seen():
    answers = iter([(0.01, 0.01, ""), (0.01, 0.01, "back")])
    play = Play(lambda: next(answers, at_once()))
    play.add()
    play.run(0.1)
    assert play.server.lease is not None
    assert play.leaders == []
    play.run(TERMS.look)
    assert play.leaders == [0]
    assert play.terms == {1: 0}


def test_a_term_that_switches_have_seen_is_outbid_by_who_still_holds_the_lease():
    play = settled()
    (leader,) = play.leaders
    play.candidates[leader].elector.outbid(70)
    play.run(TERMS.renew)
    assert play.leaders == [leader]
    assert play.candidates[leader].elector.standing.term == 71
    stopped = play.candidates[leader]
    stopped.stopped_until = play.now + 20
    play.run(19)
    stopped.elector.outbid(90)
    (new,) = set(play.leaders) - {leader}
    term = play.candidates[new].elector.standing.term
    play.run(10)
    assert play.leaders == [new]
    assert play.candidates[new].elector.standing.term == term == 72


def test_nobody_leads_who_has_given_the_lease_back():
    play = settled(1)
    elector = play.candidates[0].elector
    assert elector.release() is not None
    assert elector.release() is None
    assert elector.standing == Standing()


@pytest.mark.parametrize(
    ("generation", "term", "later"),
    [
        (2, 1, True),
        (1, 1, False),
        (1, 2, False),
        (WHOLE - 1, 0, False),
        (WHOLE - 1, 1, False),
        (0, WHOLE - 1, True),
        (2**63 - 1, 0, True),
        (2**63, 0, False),
    ],
)
def test_terms_are_compared_as_switches_compare_generation_ids(generation, term, later):
    assert is_later(generation, term) is later


@pytest.mark.parametrize(
    ("refused", "served", "above"),
    [
        ({}, 0, None),
        ({"a": 9}, 0, 9),
        ({"a": 9}, 1, None),
        ({"a": 9, "b": 9}, 1, 9),
        ({"a": 9, "b": 9}, 2, None),
        ({"a": 2**62, "b": 9, "c": 9}, 0, 9),
        ({"a": 2**62, "b": 9, "c": 9}, 2, 9),
        ({"a": 2**62}, 2, None),
    ],
)
def test_a_minority_of_switches_raises_no_term(refused, served, above):
    assert outbidding(refused, served) == above
