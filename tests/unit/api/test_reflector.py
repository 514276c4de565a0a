"""The reflector against a server that misbehaves in every way, in any order.

Whatever happens in between: in the end the consumer knows exactly what the server has; and on
the way it was never told of a state that the server was not in, nor of one older than it knew.
"""

from __future__ import annotations

import json
import random

import pytest
from fake_api import FakeAPI, bookmark, error, line, pod_object, status
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ovsnet.api.events import Changed, Deleted, Fresh, Malformed, Rewound, Stale, Synced
from ovsnet.api.pod import POD
from ovsnet.api.reflector import Get, Reflector, Timing, Wait
from ovsnet.model import PodRef

NAMES = ("a", "b", "c")
TIMING = Timing(page=2)


class Consumer:
    """Applies what it is told, and protests at phantoms."""

    def __init__(self, api):
        self.api = api
        self.view = None
        self.progress = {}
        self.stale = False
        self.events = []

    def take(self, notices):
        for notice in notices:
            self.events.append(notice)
            match notice:
                case Synced(_, objects):
                    assert not self.stale
                    for key in {*objects, *(self.view or {})}:
                        self._told(key, objects.get(key))
                    self.view = dict(objects)
                case Changed(_, key, pod):
                    assert not self.stale
                    assert self.view.get(key) != pod, "told what it knew"
                    self._told(key, pod)
                    self.view[key] = pod
                case Deleted(_, key, uid):
                    assert not self.stale
                    assert self.view[key].uid == uid
                    del self.view[key]
                    self._told(key, None)
                case Stale():
                    assert not self.stale
                    self.stale = True
                case Fresh():
                    assert self.stale
                    self.stale = False

    def _told(self, key, pod):
        """The state must be one that the pod was in, and not before the one told last."""
        states = [(0, None), *self.api.values_of(key)]
        if pod is None and self.view is not None and key in self.view:
            # Between two lives of a name: it is truly gone in at least one later state, or the
            # new life, of another uid, is about to be told.
            former = self.view[key].uid
            gone = [v for v, s in states if s is None or s.uid != former]
            assert any(v > self.progress.get(key, 0) for v in gone), "deleted without reason"
            return
        since = self.progress.get(key, 0)
        later = [version for version, state in states if version >= since and state == pod]
        assert later, f"{key}: phantom {pod}"
        self.progress[key] = later[0]


class Line:
    """The line between a reflector and the fake: it carries out one action after the other."""

    def __init__(self, api=None, timing=TIMING, seed=0):
        self.api = api or FakeAPI()
        self.consumer = Consumer(self.api)
        self.now = 1000.0
        self.timing = timing
        self.reflector = Reflector(POD, timing, random.Random(seed).random, self.now)
        self.get = None
        self.sent = 0
        self.waits = []
        self.gets = []

    @property
    def watching(self):
        return self.request_is_open and ("watch", "true") in self.get.query

    @property
    def request_is_open(self):
        return self.get is not None and not self.reflector.done

    def tell(self, notices):
        self.consumer.take(notices)

    def open(self):
        """Brings the reflector to its next request; a watch is answered with 200 if it can be."""
        if self.request_is_open:
            return
        self.ask()
        if self.watching:
            self.sent = int(dict(self.get.query)["resourceVersion"])
            if self.api.events_after(self.sent) is None:
                self.answer(410, status(410, "too old resource version"))
                self.open()
                return
            self.tell(self.reflector.answered(200, self.now))

    def ask(self):
        while True:
            step = self.reflector.next()
            if isinstance(step, Get):
                self.get = step
                self.gets.append(step)
                return
            assert isinstance(step, Wait)
            assert 0 < step.seconds <= self.timing.backoff_most
            self.waits.append(step.seconds)
            self.now += step.seconds

    def answer(self, code, body=b"", retry_after=0.0, cut=None):
        """A whole response, in two pieces; or only its first `cut` bytes."""
        self.tell(self.reflector.answered(code, self.now, retry_after))
        if cut is not None:
            self.tell(self.reflector.data(body[:cut], self.now))
            self.tell(self.reflector.failed("connection reset", self.now))
            return
        half = len(body) // 2
        self.tell(self.reflector.data(body[:half], self.now))
        self.tell(self.reflector.data(body[half:], self.now))
        self.tell(self.reflector.ended(self.now))

    def stream(self, data, pieces=1):
        size = max(1, -(-len(data) // pieces))
        for start in range(0, len(data), size):
            self.tell(self.reflector.data(data[start : start + size], self.now))

    # Actions.

    def act(self, action, number):
        getattr(self, f"do_{action}")(number)

    def do_write(self, number):
        self.api.write(NAMES[number % 3])

    def do_quiet(self, number):
        self.api.write(NAMES[number % 3], quiet=True)

    def do_broken(self, number):
        self.api.write(NAMES[number % 3], broken=True)

    def do_delete(self, number):
        self.api.delete(NAMES[number % 3])

    def do_compact(self, number):
        self.api.compact()

    def do_time(self, number):
        self.now += number

    def do_deliver(self, number):
        """The next page of a list; or the next events of a watch, in some pieces."""
        self.open()
        if not self.watching:
            self.answer(*self.api.page(dict(self.get.query)))
            return
        for version, kind, thing in self.api.log:
            if version > self.sent and number:
                self.stream(line(kind, thing), pieces=number % 4 + 1)
                self.sent = version
                number -= 1

    def do_swap(self, number):
        """The next two events the wrong way round, if they concern different objects."""
        self.open()
        if self.watching:
            two = [e for e in self.api.log if e[0] > self.sent][:2]
            if len({e[2]["metadata"]["name"] for e in two}) == 2:
                self.stream(b"".join(line(k, t) for _, k, t in reversed(two)), number % 3 + 1)
                self.sent = two[1][0]

    def do_repeat(self, number):
        """Any event of the past once more, as long as this watch has come so far."""
        self.open()
        past = [e for e in self.api.log if e[0] <= self.sent]
        if self.watching and past:
            _, kind, thing = past[number % len(past)]
            self.stream(line(kind, thing))

    def do_bookmark(self, number):
        self.open()
        if self.watching:
            if not [e for e in self.api.log if e[0] > self.sent]:
                self.sent = self.api.version
            self.stream(bookmark(self.sent))

    def do_half_a_line_and_cut(self, number):
        self.open()
        if self.watching:
            self.stream(line("ADDED", {"metadata": {"name": "phantom"}})[: 10 + number])
            self.tell(self.reflector.failed("connection reset", self.now))
        else:
            self.answer(*self.api.page(dict(self.get.query)), cut=10 + number)

    def do_half_a_line_and_end(self, number):
        self.open()
        if self.watching:
            self.stream(line("ADDED", {"metadata": {"name": "phantom"}})[: 10 + number])
            self.tell(self.reflector.ended(self.now))

    def do_end(self, number):
        self.open()
        if self.watching:
            self.tell(self.reflector.ended(self.now))

    def do_stall(self, number):
        self.open()
        self.now += self.get.silence
        self.tell(self.reflector.stalled(self.now))

    def do_unreachable(self, number):
        if self.request_is_open:
            self.tell(self.reflector.failed("connection reset", self.now))
        self.ask()
        self.tell(self.reflector.failed("connection refused", self.now))

    def do_status(self, number):
        if self.request_is_open:
            self.tell(self.reflector.ended(self.now))
        self.ask()
        code = (410, 500, 503, 429, 403, 504, 404)[number % 7]
        self.answer(code, status(code, "no") if number % 2 else b"<html>proxy</html>")

    def do_error_event(self, number):
        self.open()
        if self.watching:
            self.stream(error((410, 500, 504)[number % 3]) + line("ADDED", {"metadata": {}}))

    def do_garbage(self, number):
        self.open()
        garbage = (b"{]\n", b"[]\n", b'{"type":"TURNED","object":{}}\n', b"\xff\xfe\n", b"\n")
        if self.watching:
            self.stream(garbage[number % 5])
        else:
            self.answer(200, garbage[number % 5])

    def do_old_list(self, number):
        """A replica that lags answers the list."""
        self.open()
        if not self.watching and "continue" not in dict(self.get.query):
            versions = sorted(self.api.states)
            self.answer(*self.api.page(dict(self.get.query), at=versions[number % len(versions)]))

    def settle(self):
        """From here on the server behaves."""
        for _ in range(100):
            self.open()
            if self.watching and not [e for e in self.api.log if e[0] > self.sent]:
                return
            self.do_deliver(len(self.api.log))
        raise AssertionError("the reflector does not come to rest")


ACTIONS = sorted(name.removeprefix("do_") for name in vars(Line) if name.startswith("do_"))
COMMON = ["write", "write", "delete", "deliver", "deliver", "deliver"]
STEPS = st.lists(
    st.tuples(st.sampled_from(ACTIONS + COMMON * 2), st.integers(0, 40)), min_size=5, max_size=60
)


@settings(max_examples=800, deadline=None)
@given(STEPS, st.integers(0, 3))
@example([("write", 0), ("delete", 0), ("deliver", 1), ("repeat", 0)], 0)
@example([("deliver", 1), ("write", 0), ("deliver", 9), ("delete", 0), ("repeat", 0)], 0)
def test_any_course_of_events_ends_with_the_server_s_state(steps, seed):
    way = Line(seed=seed)
    for action, number in steps:
        way.act(action, number)
    way.settle()
    assert way.consumer.view == way.api.at(way.api.version)
    assert not way.consumer.stale


@settings(max_examples=150, deadline=None)
@given(STEPS, st.sampled_from(["gone_list", "gone_watch", "gone_event"]))
def test_410_at_every_point(steps, where):
    """The same course, with everything forgotten before every single step."""
    way = Line()
    for action, number in steps:
        way.api.compact()
        if where == "gone_event":
            way.do_error_event(0)
        elif where == "gone_watch" and way.watching:
            way.tell(way.reflector.ended(way.now))
        way.act(action, number)
    way.settle()
    assert way.consumer.view == way.api.at(way.api.version)


def following(*names, timing=TIMING):
    """A reflector that watches a server with these pods."""
    way = Line(timing=timing)
    for name in names:
        way.api.write(name)
    way.settle()
    way.consumer.events.clear()
    way.gets.clear()
    way.now += 60
    return way


def kinds(way):
    return [type(event).__name__ for event in way.consumer.events]


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


def test_changes_that_the_network_does_not_see_are_no_events():
    way = following("a")
    for _ in range(5):
        way.api.write("a", quiet=True)
    way.settle()
    assert way.consumer.events == []


def test_a_name_that_lives_again_is_told_as_two_pods():
    way = following("a")
    old = way.consumer.view[PodRef("shop", "a")].uid
    way.api.delete("a")
    way.api.write("a")
    new = way.api.log[-1]
    # The deletion itself never comes.
    way.stream(line("MODIFIED", new[2]))
    deleted, changed = way.consumer.events
    assert deleted == Deleted(POD, PodRef("shop", "a"), old)
    assert changed.object.uid != old


@pytest.mark.parametrize("marked", [False, True])
def test_a_deletion_is_true_whatever_version_it_bears(marked):
    """Old API servers send the version of the last write with it."""
    way = following("a")
    last = way.api.live["a"]
    way.api.delete("a")
    if marked:
        way.stream(bookmark(99))
    way.stream(line("DELETED", last))
    assert kinds(way) == ["Deleted"]
    way.stream(line("MODIFIED", last))
    assert kinds(way) == ["Deleted"]


def test_what_was_deleted_before_the_list_does_not_come_back():
    way = Line()
    way.api.write("a")
    way.api.delete("a")
    way.settle()
    way.do_repeat(0)
    assert kinds(way) == ["Synced"]


def test_nothing_older_than_a_bookmark_is_news_even_after_older_bookmarks():
    way = following("a")
    way.stream(bookmark(50) + bookmark(10))
    way.stream(line("ADDED", pod_object("b", "u", 40, 1)))
    assert way.consumer.events == []
    way.tell(way.reflector.failed("reset", way.now))
    way.open()
    assert dict(way.get.query)["resourceVersion"] == "50"


def test_a_repeated_bookmark_does_not_make_it_forget_deletions():
    way = following()
    way.api.write("a")
    way.settle()
    way.api.delete("a")
    way.settle()
    way.stream(bookmark(1))
    way.do_repeat(0)
    assert kinds(way) == ["Changed", "Deleted"]


def test_a_bookmark_that_comes_late_does_not_make_it_forget_later_deletions():
    way = following()
    for _ in range(5):
        way.api.write("a")
    way.settle()
    way.api.delete("a")
    way.settle()
    way.stream(bookmark(way.api.version - 2))
    way.do_repeat(4)
    assert kinds(way)[-1] == "Deleted"


def test_a_repeated_event_does_not_move_the_place_to_resume_from():
    way = following("a", "b")
    way.api.write("a")
    way.settle()
    way.do_repeat(0)
    way.tell(way.reflector.failed("reset", way.now))
    way.open()
    assert dict(way.get.query)["resourceVersion"] == str(way.api.version)


def test_pages_of_different_versions_are_followed_from_the_lowest():
    """No server should send them; one that does must not make us miss a deletion."""
    way = Line()
    for name in ("a", "b", "c"):
        way.api.write(name)
    way.do_deliver(1)
    way.api.delete("a")
    way.open()
    rest = {"metadata": {"resourceVersion": "5"}, "items": [way.api.live["c"]]}
    way.answer(200, json.dumps(rest).encode())
    way.settle()
    assert kinds(way) == ["Synced", "Deleted"]


@pytest.mark.parametrize("broken", [b"{]\n", error(503), error(410)])
def test_what_follows_a_broken_line_is_not_read(broken):
    way = following("a")
    way.stream(broken)
    way.api.delete("a")
    way.stream(line(*way.api.log[-1][1:]))
    assert "Deleted" not in kinds(way)


def test_a_late_deletion_of_a_former_life_is_no_news():
    way = following("a")
    way.api.delete("a")
    way.api.write("a")
    deletion, creation = way.api.log[-2:]
    way.stream(line("ADDED", creation[2]))
    way.consumer.events.clear()
    way.stream(line("DELETED", deletion[2]))
    assert way.consumer.events == []


def test_an_object_that_cannot_be_read_is_absent_and_is_reported_once():
    way = following("a", "b")
    way.api.write("a", broken=True)
    way.api.write("a", broken=True, quiet=True)
    way.settle()
    assert kinds(way) == ["Malformed", "Deleted"]
    assert way.consumer.events[0] == Malformed(
        POD, "shop/a", "spec.nodeName", "Expected `str`, got `int`"
    )
    way.consumer.events.clear()
    way.stream(error(410))
    way.settle()
    assert kinds(way) == ["Synced"]
    way.api.write("a")
    way.settle()
    assert kinds(way) == ["Synced", "Changed"]


def test_objects_without_name_or_version_spoil_no_others():
    way = following("a")
    for meta in ({}, {"name": "x", "namespace": "shop", "uid": "u"}, {"name": 5}):
        way.stream(line("ADDED", {"metadata": meta}))
    way.api.write("b")
    way.settle()
    assert kinds(way) == ["Malformed"] * 3 + ["Changed"]
    assert [e.object for e in way.consumer.events[:3]] == ["(no name)", "shop/x", "(no name)"]


def test_the_same_in_a_list():
    way = Line()
    way.api.write("a")
    things = [{"metadata": {}}, way.api.live["a"], {"metadata": {"name": "x"}}, None, 5]
    body = {"metadata": {"resourceVersion": "9"}, "items": things}
    way.ask()
    way.answer(200, json.dumps(body).encode())
    assert kinds(way) == ["Malformed"] * 4 + ["Synced"]
    assert set(way.consumer.view) == {PodRef("shop", "a")}


def test_a_list_that_is_older_than_what_was_seen_is_not_trusted():
    way = following("a")
    way.api.delete("a")
    way.settle()
    way.consumer.events.clear()
    way.stream(error(410))
    way.ask()
    way.answer(*way.api.page(dict(way.get.query), at=2))
    assert kinds(way) == ["Stale"]
    assert way.consumer.view == {}
    way.settle()
    assert kinds(way) == ["Stale", "Fresh", "Synced"]
    assert way.consumer.view == {}


def test_a_history_that_starts_over_is_accepted_in_the_end():
    """A backup was restored: no list will ever be as new as what we saw."""
    way = following("a", "b")
    restored = FakeAPI()
    restored.write("a")
    seen = way.api.version
    began = way.now
    way.stream(error(410))
    while way.consumer.events[-1:] == [] or kinds(way)[-1] == "Stale":
        way.ask()
        way.consumer.api = restored
        way.consumer.progress.clear()
        way.consumer.view = None
        way.answer(*restored.page(dict(way.get.query)))
    assert way.now - began >= TIMING.rewind
    assert kinds(way) == ["Stale", "Rewound", "Fresh", "Synced"]
    assert way.consumer.events[1] == Rewound(POD, seen, restored.version)
    way.api = restored
    restored.write("c")
    way.settle()
    assert way.consumer.view == restored.at(restored.version)


def test_what_the_consumer_did_not_take_is_told_again_by_a_list():
    way = following("a")
    way.tell(way.reflector.distrusted("fault", way.now))
    way.settle()
    assert kinds(way) == ["Stale", "Fresh", "Synced"]


def test_a_field_selector_is_part_of_every_request():
    reflector = Reflector(POD, TIMING, random.Random(0).random, 0.0, "metadata.name=a")
    assert ("fieldSelector", "metadata.name=a") in reflector.next().query
    reflector.answered(200, 0.0)
    reflector.data(b'{"metadata":{"resourceVersion":"5"},"items":null}', 0.0)
    assert reflector.ended(0.0) == (Synced(POD, {}),)
    assert ("fieldSelector", "metadata.name=a") in reflector.next().query
