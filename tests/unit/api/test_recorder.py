"""Events about objects: what is written, what not again, and what becomes of it in bad times."""

from __future__ import annotations

import json
import logging
import threading

import pytest
from fake_api import FakeAnswer, FakeEvents, status
from places import wait_for

from ovsnet.api.connection import StalledError, UnreachableError
from ovsnet.api.recorder import Pace, Recorder
from ovsnet.api.remark import Remark, Subject, event_name, first_event

PATIENCE = 20
POLICY = Subject("networking.k8s.io/v1", "NetworkPolicy", "shop", "db", "uid-1")
REMARK = Remark(POLICY, "NotEnforced", "spec.tier: unknown field", "spec.tier")
PATH = f"/api/v1/namespaces/shop/events/{event_name(REMARK)}"
BRISK = Pace(backoff=0.001, backoff_most=0.002)
REFUSED = FakeAnswer(503, status(503, "overloaded"))
AWAY = UnreachableError("no answer")


class Clock:
    """Seconds since 1970 that pass when a test says so."""

    def __init__(self):
        self.now = 1_700_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def begin(clock):
    """Starts a recorder that writes to a server."""
    recorders = []

    def start(server, pace=BRISK, **more):
        recorders.append(Recorder(server, pace=pace, clock=clock, chance=lambda: 1.0, **more))
        recorders[-1].start()
        return recorders[-1]

    yield start
    for recorder in recorders:
        recorder.stop()
        recorder._thread.join(PATIENCE)
        assert not recorder._thread.is_alive()


def told(recorder, server, remark):
    """Has a remark told, and waits until it and all before it are dealt with."""
    last = Remark(POLICY, "Last", "", str(len(server.requests)))
    recorder.record(remark)
    recorder.record(last)
    path = f"/api/v1/namespaces/shop/events/{event_name(last)}"
    server.wait(lambda: path in server.events)
    del server.events[path]


def test_an_event(begin):
    server = FakeEvents()
    told(begin(server), server, REMARK)
    assert server.events == {
        PATH: {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"namespace": "shop", "name": event_name(REMARK)},
            "involvedObject": {
                "apiVersion": "networking.k8s.io/v1",
                "kind": "NetworkPolicy",
                "namespace": "shop",
                "name": "db",
                "uid": "uid-1",
            },
            "type": "Warning",
            "reason": "NotEnforced",
            "message": "spec.tier: unknown field",
            "source": {"component": "ovsnet"},
            "reportingComponent": "ovsnet",
            "firstTimestamp": "2023-11-14T22:13:20Z",
            "lastTimestamp": "2023-11-14T22:13:20Z",
            "count": 1,
        }
    }


def test_the_same_is_not_told_twice_in_short_order(begin, clock):
    server = FakeEvents()
    recorder = begin(server)
    told(recorder, server, REMARK)
    clock.now += BRISK.quiet - 1
    told(recorder, server, REMARK)
    assert server.events[PATH]["count"] == 1
    clock.now += 1
    told(recorder, server, REMARK)
    assert server.events[PATH]["count"] == 2
    assert server.events[PATH]["firstTimestamp"] == "2023-11-14T22:13:20Z"
    assert server.events[PATH]["lastTimestamp"] == "2023-11-14T22:18:20Z"


def test_other_words_about_the_same_part_take_the_place_of_the_old_ones_at_once(begin):
    server = FakeEvents()
    recorder = begin(server)
    told(recorder, server, REMARK)
    told(recorder, server, Remark(POLICY, "NotEnforced", "spec.tier: otherwise", "spec.tier"))
    assert server.events[PATH]["message"] == "spec.tier: otherwise"
    assert server.events[PATH]["count"] == 2


def test_a_controller_that_restarts_finds_its_event_again(begin):
    server = FakeEvents()
    for _ in range(3):
        told(begin(server), server, REMARK)
    assert list(server.events) == [PATH]
    assert server.events[PATH]["count"] == 3


def test_an_event_that_has_expired_is_made_anew(begin, clock):
    server = FakeEvents()
    recorder = begin(server)
    told(recorder, server, REMARK)
    server.events.clear()
    clock.now += BRISK.quiet
    told(recorder, server, REMARK)
    assert server.events[PATH]["count"] == 1
    assert server.events[PATH]["firstTimestamp"] == "2023-11-14T22:18:20Z"


@pytest.mark.parametrize("requests_before", [1, 2])
def test_an_event_that_expires_while_it_is_counted_is_made_anew(begin, requests_before):
    server = FakeEvents()
    server.events[PATH] = json.loads(first_event(REMARK, 0.0))
    server.ails = [None] * requests_before + [server.events.clear]
    told(begin(server), server, REMARK)
    assert server.events[PATH]["count"] == 1
    assert server.events[PATH]["firstTimestamp"] == "2023-11-14T22:13:20Z"


@pytest.mark.parametrize(
    "ails",
    [
        [AWAY] * 5,
        [StalledError("nothing came")] * 3,
        [REFUSED] * 4,
        [FakeAnswer(429, b"not even JSON", retry_after=0.01)],
        [FakeAnswer(500, b"")],
        [FakeAnswer(401, status(401, "Unauthorized"))],
        [AWAY, REFUSED, AWAY, FakeAnswer(504)],
    ],
)
def test_it_is_told_when_the_server_is_back(begin, ails):
    server = FakeEvents()
    server.ails = list(ails)
    told(begin(server), server, REMARK)
    assert server.events[PATH]["count"] == 1
    assert server.ails == []


def test_a_lost_answer_counts_the_event_once_too_often_and_makes_no_second_one(begin):
    server = FakeEvents()
    server.ails = ["answer lost"]
    told(begin(server), server, REMARK)
    assert list(server.events) == [PATH]
    assert server.events[PATH]["count"] == 2


@pytest.mark.parametrize("code", [400, 403, 404, 422])
def test_what_the_server_will_never_take_is_given_up_at_once(begin, caplog, code):
    server = FakeEvents()
    server.ails = [FakeAnswer(code, status(code, "for a reason"))]
    recorder = begin(server)
    told(recorder, server, REMARK)
    assert server.events == {}
    (line,) = [r for r in caplog.records if r.getMessage() == "event given up"]
    assert line.levelno == logging.WARNING
    # It is not held to have been told.
    told(recorder, server, REMARK)
    assert PATH in server.events


def test_it_is_given_up_after_a_while_and_the_next_one_has_its_chance(begin, clock, caplog):
    def away():
        clock.now += BRISK.patience / 4
        raise AWAY

    server = FakeEvents()
    server.ails = [away] * 4
    recorder = begin(server)
    told(recorder, server, REMARK)
    assert server.events == {}
    assert caplog.messages.count("event given up") == 1
    told(recorder, server, REMARK)
    assert server.events[PATH]["count"] == 1


def test_the_caller_never_waits_and_what_is_too_much_is_logged(begin, caplog):
    held, release = threading.Event(), threading.Event()
    server = FakeEvents()
    create = server.post

    def post(path, body, silence):
        held.set()
        assert release.wait(PATIENCE)
        return create(path, body, silence)

    server.post = post
    recorder = begin(server, Pace(waiting=2))
    remarks = [Remark(POLICY, "NotEnforced", f"number {n}", str(n)) for n in range(5)]
    recorder.record(remarks[0])
    assert held.wait(PATIENCE)
    for remark in remarks[1:]:
        recorder.record(remark)
    assert caplog.messages.count("event given up") == 2
    release.set()
    server.wait(lambda: len(server.events) == 3)
    assert {event["message"] for event in server.events.values()} == {
        "number 0",
        "number 1",
        "number 2",
    }


def test_it_ends_while_the_server_is_away(begin):
    server = FakeEvents()
    server.ails = [AWAY] * 1000
    recorder = begin(server, Pace(backoff=3600.0, backoff_most=3600.0))
    recorder.record(REMARK)
    server.wait(lambda: server.requests)


@pytest.mark.parametrize(
    ("known", "before", "written"),
    [
        # The first request is not sent, nor one again that failed, nor the next after one that
        # found the Event there; and nothing of what waits behind.
        (False, 0, 0),
        (False, 1, 0),
        (False, 5, 0),
        (True, 1, 1),
        (True, 2, 1),
    ],
)
def test_who_is_not_to_tell_it_any_more_sends_no_further_request(begin, known, before, written):
    server = FakeEvents()
    if known:
        server.events[PATH] = json.loads(first_event(REMARK, 0.0))
    else:
        server.ails = [REFUSED] * before
    lead, answers = threading.Event(), []

    def ours():
        answers.append(lead.is_set() or len(server.requests) < before)
        return answers[-1]

    recorder = begin(server, ours=ours)
    others = [Remark(POLICY, "NotEnforced", f"number {n}", str(n)) for n in range(3)]
    for remark in (REMARK, *others):
        recorder.record(remark)
    wait_for(lambda: answers.count(False) == 4, "all four to be dropped")
    assert len(server.requests) == before
    assert len(server.events) == written
    assert all(event["count"] == 1 for event in server.events.values())
    # When it is ours again, all is told anew: what was dropped is not held to have been told.
    lead.set()
    told(recorder, server, REMARK)
    assert server.events[PATH]["count"] == 1 + known


def test_a_fault_of_its_own_ends_nothing(begin, caplog):
    server = FakeEvents()
    server.ails = [RuntimeError("fault")]
    told(begin(server), server, REMARK)
    assert "event lost by a fault of our own" in caplog.messages
    assert server.events == {}


def test_names_of_events_are_names_and_tell_remarks_apart():
    long = Subject("v1", "NetworkPolicy", "shop", "a" * 199 + "-" + "b" * 53, "u")
    names = {
        event_name(remark)
        for remark in (
            REMARK,
            Remark(POLICY, "NotEnforced", REMARK.message, "spec.other"),
            Remark(POLICY, "Other", REMARK.message, REMARK.about),
            Remark(Subject("v1", "NetworkPolicy", "shop", "db", "uid-2"), *("NotEnforced", "")),
            Remark(long, "NotEnforced", ""),
        )
    }
    assert len(names) == 5
    for name in names:
        assert len(name) <= 253
        assert all(label.strip("-") == label and label for label in name.split("."))


def test_a_long_message_is_cut_where_a_letter_ends():
    event = json.loads(first_event(Remark(POLICY, "NotEnforced", "ü" * 2000), 0.0))
    assert len(event["message"].encode()) <= 1024
    assert event["message"].startswith("üü")
    assert event["message"].endswith("ü...")
