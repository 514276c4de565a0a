"""A stub of the controller's brain: one thread that feeds a switchboard and does what it says."""

from __future__ import annotations

import contextlib
import queue
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Self, TypeVar

import datapath
from pyroute2 import netns as pyroute_netns
from slowness import SLOW

from ovsnet.controller.notices import Admitted, Close, Outcome, Send
from ovsnet.controller.openflow.app import OpenFlowServer
from ovsnet.controller.openflow.encode import fingerprint
from ovsnet.controller.openflow.events import Connected, Event
from ovsnet.controller.states import Timing
from ovsnet.controller.switchboard import Switchboard
from ovsnet.flows.flow import Flow, FlowKey
from ovsnet.flows.ledger import Delta
from ovsnet.names import datapath_id
from ovsnet.sandbox.openvswitch import OpenVSwitch

Notice = TypeVar("Notice")
BRIDGE = "br-int"
PATIENCE = 30.0 * SLOW
QUICK = Timing(quiet=1.0, dead=10.0, answer=30.0, audit=3600.0, retry=0.1, retry_most=1.0)


class Wanted:
    """Desired flows that a test changes as it likes."""

    def __init__(self, flows: Iterable[Flow] = (), revision: int = 1) -> None:
        self.flows: dict[FlowKey, Flow] = {flow.key: flow for flow in flows}
        self.revision = revision

    @property
    def digest(self) -> int:
        return sum(map(fingerprint, self.flows.values())) % (1 << 64) or 1

    def change(self, adds: Iterable[Flow] = (), deletes: Iterable[FlowKey] = ()) -> Delta:
        gone = tuple(self.flows.pop(key) for key in deletes)
        adds = tuple(adds)
        self.flows.update((flow.key, flow) for flow in adds)
        self.revision += 1
        return Delta(adds, gone, self.digest, self.revision)


@contextlib.contextmanager
def inside(netns: str) -> Iterator[None]:
    """Sockets made meanwhile in this thread belong to the namespace."""
    pyroute_netns.pushns(netns)
    try:
        yield
    finally:
        pyroute_netns.popns()


class Post:
    """os-ken has one server in a process. This one takes the connections of several controllers,
    each of which has a port, to theirs; one whose controller is not there yet has to come again.
    """

    def __init__(self, netns: str, ports: Iterable[int]) -> None:
        self.brains: dict[int, Brain] = {}
        self._port_of: dict[int, int] = {}
        with inside(netns):
            self.server = OpenFlowServer([("127.0.0.1", port) for port in ports], self._deliver)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.server.close()

    def _deliver(self, event: Event) -> None:
        number = event.connection
        if isinstance(event, Connected):
            connection, _ = self.server._connections[number]
            self._port_of[number] = connection.socket.getsockname()[1]
        brain = self.brains.get(self._port_of[number])
        if brain is None:
            self.server.end(number, "its controller is not there yet")
        else:
            brain.hear(event)


class Brain:
    """Listens in a namespace and drives sessions. `notices` is all they said, in order.

    With a `post` it is the controller of a port of that, and of no server of its own.
    """

    def __init__(
        self,
        netns: str,
        wanted: dict[str, Wanted],
        *,
        port: int = 6653,
        generation: int | None = 1,
        timing: Timing = QUICK,
        tls: Callable[[], ssl.SSLContext | None] | None = None,
        post: Post | None = None,
    ) -> None:
        self.wanted = wanted
        self.nodes = set(wanted)
        self.notices: list[object] = []
        self.sent = 0
        self._events: queue.SimpleQueue[Event | Callable[[], list[Outcome]] | None] = (
            queue.SimpleQueue()
        )
        self.board = Switchboard(generation, timing)
        self._news = threading.Condition()
        self._own = post is None
        if post is not None:
            self.server = post.server
            post.brains[port] = self
        else:
            with inside(netns):
                self.server = OpenFlowServer([("127.0.0.1", port)], self.hear, tls)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._own:
            self.server.close()
        self._events.put(None)
        self._thread.join(PATIENCE)

    def hear(self, event: Event) -> None:
        """Take in what a switch says."""
        self._events.put(event)

    def change(self, node: str, delta: Delta) -> None:
        self.call(lambda board: board.changed(node, delta, time.monotonic()))

    def call(self, what: Callable[[Switchboard], list[Outcome]]) -> None:
        """Have something done in the brain's thread."""
        self._events.put(lambda: what(self.board))

    def lead(self, generation: int) -> None:
        self.call(lambda board: board.lead(generation, time.monotonic()))

    def send(self, data: bytes) -> None:
        """Send these bytes to every switch, whatever the sessions say."""

        self.call(lambda board: [Send(session.connection, data) for session in board])

    @contextlib.contextmanager
    def asleep(self) -> Iterator[None]:
        """Nothing that comes in is answered for as long as this lasts, as when it is stopped."""
        awake = threading.Event()

        def sleep(_: Switchboard) -> list[Outcome]:
            awake.wait(PATIENCE)
            return []

        self.call(sleep)
        try:
            yield
        finally:
            awake.set()

    def wait(self, kind: type[Notice], which: Callable[[Notice], bool] = lambda _: True) -> Notice:
        """The first notice of this kind for which `which` holds, old or new."""

        def found() -> list[Notice]:
            return [n for n in self.notices if isinstance(n, kind) and which(n)]

        with self._news:
            assert self._news.wait_for(found, PATIENCE), f"no {kind.__name__} in {self.notices}"
            return found()[0]

    def _run(self) -> None:
        while True:
            now = time.monotonic()
            try:
                event = self._events.get(timeout=max(0.0, min(self.board.due - now, 60.0)))
            except queue.Empty:
                self._carry_out(self.board.tick(time.monotonic()))
                continue
            if event is None:
                return
            now = time.monotonic()
            outcomes = event() if callable(event) else self.board.handle(event, self.nodes, now)
            self._carry_out(outcomes)

    def _carry_out(self, outcomes: list[Outcome]) -> None:
        for outcome in outcomes:
            match outcome:
                case Send(connection, data):
                    self.sent += len(data)
                    self.server.send(connection, data)
                case Close(connection, reason):
                    self.server.end(connection, reason)
                case _:
                    with self._news:
                        self.notices.append(outcome)
                        self._news.notify_all()
            if isinstance(outcome, Admitted):
                wanted = self.wanted[outcome.node]
                self._carry_out(self.board.desire(outcome.node, wanted, time.monotonic()))


def add_bridge(
    switch: OpenVSwitch, node: str, *, bridge: str = BRIDGE, controller: str = "tcp:127.0.0.1:6653"
) -> None:
    """A bridge as the agent makes it."""
    switch.vsctl(
        *("add-br", bridge, "--"),
        *("set", "Bridge", bridge, f"datapath_type={datapath.TYPE}", "fail_mode=secure"),
        *("protocols=OpenFlow15", f"other-config:datapath-id={datapath_id(node):016x}"),
        *(f"other-config:dp-desc={node}", "other-config:disable-in-band=true", "--"),
        *("set-controller", bridge, controller, "--"),
        *("set", "Controller", bridge, "max_backoff=1000"),
    )
