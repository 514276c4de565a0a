"""How far a watch has come, and lists that are asked for though nothing is wrong."""

from __future__ import annotations

import queue
import random
import threading

import pytest
from fake_api import FakeAPI, bookmark, line
from hypothesis import given, settings
from hypothesis import strategies as st

from ovsnet.api import POD, Changed, Deleted, Fresh, Reached, Stale, Synced, Timing, Watch
from ovsnet.api.connection import UnreachableError
from ovsnet.model import PodRef

PATIENCE = 20.0
QUICK = Timing(backoff=0.001, backoff_most=0.002, brief=5.0, page=2)
_END = object()


class Body:
    def __init__(self, status, *parts):
        self.status = status
        self.retry_after = 0.0
        self.parts = queue.Queue()
        for part in parts:
            self.parts.put(part)

    def chunks(self):
        while (part := self.parts.get(timeout=PATIENCE)) is not _END:
            if isinstance(part, Exception):
                raise part
            yield part

    def cut(self):
        self.parts.put(_END)

    def close(self):
        pass


class Server:
    """Serves pods: pages of lists, and watches that go on until they are cut.

    Nothing is told over a watch while it is `mute`, and no list is answered while it is `held`.
    """

    def __init__(self):
        self.api = FakeAPI()
        self.lock = threading.RLock()
        self.watches = []
        self.lists = 0
        self.asked = queue.Queue()
        self.mute = False
        self.open = threading.Event()
        self.open.set()
        self.away = False

    def get(self, path, query, silence):
        query = dict(query)
        if self.away:
            raise UnreachableError("refused")
        if "watch" not in query:
            return self._page(query)
        with self.lock:
            body = Body(200)
            for _, kind, thing in self.api.events_after(int(query["resourceVersion"])):
                body.parts.put(line(kind, thing))
            self.watches.append(body)
            self.asked.put("watch")
            return body

    def _page(self, query):
        with self.lock:
            code, page = self.api.page(query)
            if "continue" not in query:
                self.lists += 1
                self.asked.put("list")
        assert self.open.wait(PATIENCE)
        return Body(code, page, _END)

    def change(self, work):
        """Change the pods; every watch is told."""
        with self.lock:
            before = len(self.api.log)
            work(self.api)
            if not self.mute:
                for _, kind, thing in self.api.log[before:]:
                    self.tell(line(kind, thing))

    def tell(self, data):
        for body in self.watches[-1:]:
            body.parts.put(data)


class Scene:
    def __init__(self):
        self.server = Server()
        self.view = {}
        self.events = []
        self.versions = []
        self.news = threading.Condition()
        self.watch = Watch(self.server, POD, self.emit, reached=self.emit, timing=QUICK)

    def emit(self, event):
        with self.news:
            self.events.append(event)
            match event:
                case Synced(_, objects):
                    self.view = dict(objects)
                case Changed(_, key, pod):
                    self.view[key] = pod
                case Deleted(_, key, _):
                    del self.view[key]
                case Reached():
                    self.versions.append(event)
            self.news.notify_all()

    def wait(self, reached):
        """The first time that it was as far as this says."""
        with self.news:
            assert self.news.wait_for(lambda: any(map(reached, self.versions)), PATIENCE)
            return next(event for event in self.versions if reached(event))

    def names(self):
        with self.news:
            return {key.name for key in self.view}


@pytest.fixture
def scene():
    made = Scene()
    yield made
    made.server.away = True
    made.server.open.set()
    made.watch.stop()
    if made.watch._thread.is_alive():
        made.watch._thread.join(PATIENCE)


def test_it_tells_how_far_it_is_after_a_list_news_and_a_bookmark(scene):
    scene.server.change(lambda api: api.write("a"))
    scene.watch.start()
    assert scene.wait(lambda r: r.version == 2) == Reached(POD, 2, 0)
    assert isinstance(scene.events[0], Synced), "the news first, then how far that is"
    scene.server.change(lambda api: api.write("b"))
    scene.wait(lambda r: r.version == 3)
    assert scene.names() == {"a", "b"}
    scene.server.change(lambda api: api.write("b", quiet=True))
    scene.wait(lambda r: r.version == 4)
    with scene.server.lock:
        scene.server.tell(bookmark(70))
    scene.wait(lambda r: r.version == 70)
    versions = [r.version for r in scene.versions]
    assert versions == sorted(versions) == [2, 3, 4, 70]


def test_whoever_does_not_care_is_not_told(scene):
    told = []
    watch = Watch(scene.server, POD, told.append, timing=QUICK)
    watch.start()
    while scene.server.asked.get(timeout=PATIENCE) != "watch":
        pass
    watch.stop()
    watch._thread.join(PATIENCE)
    assert [type(event) for event in told] == [Synced]


def test_a_fresh_list_brings_what_the_watch_has_not_told(scene):
    scene.server.change(lambda api: api.write("a"))
    scene.watch.start()
    scene.wait(lambda r: r.version == 2)
    scene.server.mute = True
    scene.server.change(lambda api: api.write("b"))
    scene.server.change(lambda api: api.delete("a"))
    scene.watch.refresh(1)
    assert scene.wait(lambda r: r.asked == 1).version == 4
    assert scene.names() == {"b"}
    assert not [e for e in scene.events if isinstance(e, Stale | Fresh)], "nothing was wrong"


def test_a_list_that_began_before_does_not_count(scene):
    scene.server.open.clear()
    scene.watch.start()
    assert scene.server.asked.get(timeout=PATIENCE) == "list"
    scene.server.mute = True
    scene.server.change(lambda api: api.write("late"))
    scene.watch.refresh(1)
    scene.server.open.set()
    scene.wait(lambda r: r.asked == 1)
    assert scene.names() == {"late"}
    assert scene.server.lists == 2
    assert next(r.asked for r in scene.versions) == 0


def test_a_list_of_several_pages_is_as_old_as_its_first_one(scene):
    for name in "abcde":
        scene.server.change(lambda api, n=name: api.write(n))
    scene.server.open.clear()
    scene.watch.start()
    assert scene.server.asked.get(timeout=PATIENCE) == "list"
    scene.server.mute = True
    scene.server.change(lambda api: api.write("late"))
    scene.watch.refresh(1)
    scene.server.open.set()
    scene.wait(lambda r: r.asked == 1)
    assert "late" in scene.names()
    assert scene.server.lists == 2


def test_many_who_ask_while_a_list_is_on_its_way_get_one_more_together(scene):
    scene.server.open.clear()
    scene.watch.start()
    assert scene.server.asked.get(timeout=PATIENCE) == "list"
    for number in range(1, 50):
        scene.watch.refresh(number)
    scene.server.open.set()
    scene.wait(lambda r: r.asked == 49)
    assert scene.server.lists == 2


def test_it_watches_on_after_the_list(scene):
    scene.watch.start()
    scene.wait(lambda r: r.version == 1)
    for number in range(1, 6):
        scene.watch.refresh(number)
        scene.wait(lambda r, n=number: r.asked == n)
        name = f"pod-{number}"
        scene.server.change(lambda api, n=name: api.write(n))
        scene.wait(lambda r, n=number: r.version == n + 1)
        assert PodRef("shop", name) in scene.view
    assert scene.server.lists == 6


def test_asked_for_before_the_start_the_first_list_will_do(scene):
    scene.watch.refresh(3)
    scene.watch.start()
    assert scene.wait(lambda r: r.asked == 3).version == 1
    assert scene.server.lists == 1


def test_a_server_that_is_away_is_listed_when_it_is_back(scene):
    scene.watch.start()
    scene.wait(lambda r: r.version == 1)
    scene.server.away = True
    scene.watch.refresh(1)
    while not any(isinstance(event, Stale) for event in scene.events):
        with scene.news:
            assert scene.news.wait(PATIENCE)
    scene.server.change(lambda api: api.write("a"))
    scene.server.away = False
    scene.wait(lambda r: r.asked == 1)
    assert scene.names() == {"a"}


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 1 << 32))
def test_in_any_order_what_was_written_before_it_was_asked_for_is_told(seed):
    chance = random.Random(seed)
    scene = Scene()
    scene.watch.start()
    try:
        for number in range(1, chance.randint(2, 8)):
            for _ in range(chance.randint(0, 4)):
                scene.server.mute = chance.random() < 0.4
                name = chance.choice("abc")
                change = FakeAPI.write if chance.random() < 0.6 else FakeAPI.delete
                scene.server.change(lambda api, c=change, n=name: c(api, n))
            if chance.random() < 0.3:
                with scene.server.lock:
                    scene.server.tell(UnreachableError("broke off"))
            with scene.server.lock:
                there = set(scene.server.api.live)
            scene.watch.refresh(number)
            scene.wait(lambda r, n=number: r.asked >= n)
            assert scene.names() == there
    finally:
        scene.server.away = True
        scene.watch.stop()
        scene.watch._thread.join(PATIENCE)
