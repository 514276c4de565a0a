"""The reflector: what it asks for, how long it waits, and what an interruption is."""

from __future__ import annotations

import pytest
from fake_api import bookmark, error, status
from reflector_line import TIMING, Line, following, kinds

from ovsnet.api.events import Stale
from ovsnet.api.pod import POD
from ovsnet.api.reflector import Timing
from ovsnet.model import PodRef


def test_a_list_comes_in_pages_of_one_version():
    way = following()
    for name in ("a", "b", "c", "d", "e"):
        way.api.write(name)
    way = Line(way.api)
    way.do_deliver(1)
    way.api.write("a")
    way.api.delete("b")
    way.do_deliver(1)
    assert way.consumer.events == []
    way.do_deliver(1)
    (synced,) = way.consumer.events
    assert len(synced.objects) == 5
    assert [dict(g.query).get("limit") for g in way.gets] == ["2", "2", "2"]
    way.settle()
    assert way.consumer.view == way.api.at(way.api.version)
    assert kinds(way) == ["Synced", "Changed", "Deleted"]


def test_410_between_pages_starts_the_list_over_at_once():
    way = following()
    for name in ("a", "b", "c"):
        way.api.write(name)
    way = Line(way.api)
    way.do_deliver(1)
    way.api.write("d")
    way.api.compact()
    way.do_deliver(1)
    assert way.consumer.events == []
    way.settle()
    assert kinds(way) == ["Synced"]
    assert way.waits == []
    assert [("continue" in dict(g.query)) for g in way.gets[:4]] == [False, True, False, True]


def test_a_watch_asks_for_bookmarks_and_ends_at_a_time_of_its_own():
    way = following("a")
    way.do_end(0)
    way.open()
    query = dict(way.get.query)
    assert query["resourceVersion"] == str(way.api.version)
    assert query["allowWatchBookmarks"] == "true"
    assert TIMING.watch <= int(query["timeoutSeconds"]) <= 2 * TIMING.watch


def test_it_resumes_from_a_bookmark():
    way = following("a")
    way.api.version += 50
    way.stream(bookmark(way.api.version))
    way.api.forgotten = way.api.version
    way.tell(way.reflector.failed("reset", way.now))
    way.open()
    assert way.watching
    assert dict(way.get.query)["resourceVersion"] == str(way.api.version)
    assert kinds(way) == ["Stale", "Fresh"]


@pytest.mark.parametrize("how", ["status", "event"])
def test_410_of_a_watch_means_to_list_again_and_is_no_interruption(how):
    way = following("a", "b")
    way.api.delete("a")
    way.api.compact()
    if how == "event":
        way.stream(error(410))
    else:
        way.do_end(0)
    way.settle()
    assert kinds(way) == ["Synced"]
    assert set(way.consumer.view) == {PodRef("shop", "b")}


def test_a_server_that_says_410_for_ever_is_not_hammered():
    way = following("a")
    for _ in range(20):
        way.open()
        if way.watching:
            way.stream(error(410))
        else:
            way.do_deliver(1)
    assert len(way.waits) >= 8
    assert way.waits[-1] > 20 * way.waits[0]


def test_a_server_that_ends_every_watch_at_once_is_not_hammered():
    way = following("a")
    for _ in range(21):
        way.do_end(0)
    assert len(way.waits) == 19
    assert way.waits[-1] > 50 * way.waits[0]


def test_a_server_that_ends_every_watch_after_each_event_is_not_hammered():
    way = following("a")
    for _ in range(20):
        way.api.write("a")
        way.do_deliver(1)
        way.do_end(0)
    assert len(way.waits) == 18
    assert "Stale" not in kinds(way)


def test_backoff_grows_to_its_limit_with_jitter_and_starts_over_after_success():
    way = following("a", timing=Timing(page=2, backoff=1.0, backoff_most=16.0))
    for _ in range(8):
        way.do_unreachable(0)
    way.ask()
    for wait, most in zip(way.waits, [1, 2, 4, 8, 16, 16, 16, 16], strict=False):
        assert most / 2 <= wait <= most
    assert len(set(way.waits)) == len(way.waits)
    way.tell(way.reflector.answered(200, way.now))
    way.now += 60
    way.tell(way.reflector.failed("reset", way.now))
    way.waits.clear()
    way.ask()
    assert way.waits[0] <= 1


def test_it_waits_as_long_as_the_server_asks():
    way = following("a")
    way.do_end(0)
    way.ask()
    way.waits.clear()
    way.answer(429, status(429, "too many requests"), retry_after=17.0)
    way.ask()
    assert way.waits == [17.0]
    assert ("watch", "true") in way.get.query


def test_server_gone_means_one_stale_and_no_event():
    way = following("a", "b")
    way.do_bookmark(0)
    began = way.now
    way.now += 30
    way.api.delete("a")
    for _ in range(5):
        way.do_unreachable(0)
    assert way.consumer.events == [Stale(POD, began, "connection reset")]
    assert len(way.consumer.view) == 2
    way.settle()
    assert kinds(way) == ["Stale", "Fresh", "Deleted"]


def test_a_refusal_s_words_are_passed_on():
    way = Line()
    way.ask()
    way.answer(403, status(403, "pods is forbidden"))
    (stale,) = way.consumer.events
    assert stale.reason == "the API server answers 403: pods is forbidden"


def test_a_stalled_watch_is_resumed_without_ado():
    way = following("a")
    way.do_stall(0)
    way.open()
    assert way.watching
    assert way.consumer.events == []
    assert way.waits == []
