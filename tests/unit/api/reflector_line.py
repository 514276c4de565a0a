"""The line between a reflector and a server in memory, and who listens to the reflector."""

from __future__ import annotations

import random

from fake_api import FakeAPI, bookmark, error, line, status

from ovsnet.api.events import Changed, Deleted, Fresh, Stale, Synced
from ovsnet.api.pod import POD
from ovsnet.api.reflector import Get, Reflector, Timing, Wait

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
