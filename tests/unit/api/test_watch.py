"""The thread of a watch: it carries out what the reflector asks for, and ends when told to."""

from __future__ import annotations

import io
import json
import logging
import queue
import threading

import pytest
from fake_api import FakeAPI, bookmark, error, line

from ovsnet import logs
from ovsnet.api import NODE, POD, Changed, Deleted, Fresh, Stale, Synced, Timing, Watch, watch_node
from ovsnet.api.connection import StalledError, UnreachableError
from ovsnet.model import PodRef

QUICK = Timing(backoff=0.01, backoff_most=0.05)
PATIENCE = 20
CUT = object()


class Body:
    """A response that yields what is put into it; an exception in it is raised."""

    def __init__(self, status=200, *parts, retry_after=0.0):
        self.status = status
        self.retry_after = retry_after
        self.parts = queue.Queue()
        self.closed = False
        for part in parts:
            self.parts.put(part)

    def chunks(self):
        while True:
            part = self.parts.get(timeout=PATIENCE)
            if part is None:
                return
            if part is CUT:
                raise UnreachableError("cut")
            if isinstance(part, Exception):
                raise part
            yield part

    def cut(self):
        self.parts.put(CUT)

    def close(self):
        self.closed = True


class Server:
    """Answers each request with the next of the bodies, or raises it."""

    def __init__(self):
        self.bodies = queue.Queue()
        self.gets = queue.Queue()
        self.given = []

    def get(self, path, query, silence):
        self.gets.put((path, dict(query)))
        body = self.bodies.get(timeout=PATIENCE)
        self.given.append(body)
        if isinstance(body, Exception):
            raise body
        return body

    def will(self, *bodies):
        for body in bodies:
            self.bodies.put(body)
        return bodies[-1]


class Scene:
    def __init__(self):
        self.server = Server()
        self.events = queue.Queue()
        self.api = FakeAPI()
        self.faults = 0
        self.watch = Watch(self.server, POD, self.emit, timing=QUICK)

    def emit(self, event):
        if self.faults:
            self.faults -= 1
            raise RuntimeError("the consumer has a fault")
        self.events.put(event)

    def listed(self):
        code, body = self.api.page({"limit": "500"})
        return Body(code, body, None)

    def event(self):
        return self.events.get(timeout=PATIENCE)

    def request(self):
        return self.server.gets.get(timeout=PATIENCE)[1]


@pytest.fixture
def scene():
    made = Scene()
    yield made
    made.watch.stop()
    for _ in range(5):
        made.server.will(UnreachableError("the test is over"))


def test_list_watch_cut_resume(scene):
    scene.api.write("a")
    scene.server.will(scene.listed())
    stream = scene.server.will(Body())
    scene.watch.start()
    assert set(scene.event().objects) == {PodRef("shop", "a")}
    assert "watch" not in scene.request()
    assert scene.request()["resourceVersion"] == "2"
    scene.api.write("b")
    stream.parts.put(line(*scene.api.log[-1][1:]))
    assert isinstance(scene.event(), Changed)
    second = scene.server.will(UnreachableError("refused"), Body())
    stream.parts.put(CUT)
    assert isinstance(scene.event(), Stale)
    assert scene.request()["resourceVersion"] == "3"
    assert scene.request()["resourceVersion"] == "3"
    assert isinstance(scene.event(), Fresh)
    scene.api.delete("a")
    second.parts.put(line(*scene.api.log[-1][1:]))
    assert isinstance(scene.event(), Deleted)
    assert stream.closed


def test_an_error_event_cuts_the_connection(scene):
    scene.server.will(scene.listed())
    stream = scene.server.will(Body(200, error(410)))
    scene.server.will(scene.listed(), Body())
    scene.watch.start()
    assert isinstance(scene.event(), Synced)
    assert isinstance(scene.event(), Synced)
    assert stream.closed


def test_a_stalled_watch_is_asked_for_again(scene):
    scene.server.will(scene.listed(), Body(200, bookmark(5), StalledError()), Body())
    scene.watch.start()
    assert isinstance(scene.event(), Synced)
    scene.request()
    scene.request()
    assert scene.request()["resourceVersion"] == "5"
    assert scene.events.empty()


def test_stop_ends_a_watch_that_waits_for_data(scene):
    scene.server.will(scene.listed(), Body())
    scene.watch.start()
    scene.event()
    scene.request()
    scene.request()
    scene.watch.stop()
    scene.watch._thread.join(PATIENCE)
    assert not scene.watch._thread.is_alive()
    assert scene.events.empty()
    assert all(body.closed for body in scene.server.given if isinstance(body, Body))


def test_stop_ends_a_watch_that_waits_to_try_again():
    server = Server()
    server.will(UnreachableError("refused"))
    stale = threading.Event()
    slow = Timing(backoff=3600.0, backoff_most=3600.0)
    watch = Watch(server, POD, lambda _: stale.set(), timing=slow)
    watch.start()
    assert stale.wait(PATIENCE)
    watch.stop()
    watch._thread.join(PATIENCE)
    assert not watch._thread.is_alive()


def test_stop_from_within_emit():
    server = Server()
    server.will(Body(200, b'{"metadata":{"resourceVersion":"1"},"items":[]}', None))
    events = []

    def emit(event):
        events.append(event)
        watch.stop()

    watch = Watch(server, POD, emit, timing=QUICK)
    watch.start()
    watch._thread.join(PATIENCE)
    assert not watch._thread.is_alive()
    assert len(events) == 1


def test_stop_before_start():
    watch = Watch(Server(), POD, lambda _: None)
    watch.stop()
    watch.start()
    watch._thread.join(PATIENCE)
    assert not watch._thread.is_alive()


def test_what_a_faulty_consumer_did_not_take_comes_again(scene):
    scene.api.write("a")
    scene.faults = 2
    scene.server.will(scene.listed(), scene.listed(), Body())
    scene.watch.start()
    synced = scene.event()
    while not isinstance(synced, Synced):
        synced = scene.event()
    assert set(synced.objects) == {PodRef("shop", "a")}


def test_a_malformed_object_is_a_line_in_the_log(scene):
    buffer = io.StringIO()
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        logs.configure(buffer, logs.Format.JSON)
        scene.api.write("a", broken=True)
        scene.server.will(scene.listed(), Body())
        scene.watch.start()
        assert scene.event().objects == {}
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    first = json.loads(buffer.getvalue().splitlines()[0])
    assert first["event"] == "object is malformed"
    assert (first["level"], first["kind"]) == ("warning", "Pod")
    assert (first["object"], first["field"]) == ("shop/a", "spec.nodeName")


def test_watching_one_node():
    def node(version, cidr):
        return {
            "metadata": {"name": "n1", "uid": "u", "resourceVersion": str(version)},
            "spec": {"podCIDR": cidr},
        }

    server = Server()
    page = {"metadata": {"resourceVersion": "5"}, "items": None}
    stream = Body()
    server.will(Body(200, json.dumps(page).encode(), None), stream)
    seen = queue.Queue()
    watch = watch_node(server, "n1", seen.put, QUICK)
    watch.start()
    try:
        assert seen.get(timeout=PATIENCE) is None
        path, query = server.gets.get(timeout=PATIENCE)
        assert (path, query["fieldSelector"]) == (NODE.path, "metadata.name=n1")
        stream.parts.put(line("ADDED", node(6, "")))
        assert seen.get(timeout=PATIENCE).pod_cidrs == ()
        stream.parts.put(line("MODIFIED", node(7, "10.1.2.0/24")))
        assert str(seen.get(timeout=PATIENCE).range4) == "10.1.2.0/24"
        stream.parts.put(line("DELETED", node(8, "10.1.2.0/24")))
        assert seen.get(timeout=PATIENCE) is None
        stream.parts.put(CUT)
        page = {"metadata": {"resourceVersion": "9"}, "items": [node(9, "10.1.3.0/24")]}
        server.will(Body(410, b"{}", None), Body(200, json.dumps(page).encode(), None), Body())
        assert str(seen.get(timeout=PATIENCE).range4) == "10.1.3.0/24"
        assert seen.empty()
    finally:
        watch.stop()
        server.will(UnreachableError("the test is over"))
