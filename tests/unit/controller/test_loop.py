"""The loop: events in order, commands carried out, and a fault that does not end it."""

import time

from cluster_strategies import USUAL_NODES
from fake_switch import FakeSwitch

from ovsnet.api import KINDS, NODE, Synced
from ovsnet.controller.brain import Brain
from ovsnet.controller.loop import Loop
from ovsnet.controller.network import Network
from ovsnet.controller.notices import Acknowledged, Dumped, Lost, NotDumped, StandingBy
from ovsnet.controller.openflow import encode
from ovsnet.controller.openflow.protocol import ControllerRole
from ovsnet.controller.results import Leads, Result, StandsBy
from ovsnet.controller.states import Timing
from ovsnet.controller.switchboard import Switchboard


class Stage:
    """A loop between the API server's lists and one switch that answers at once.

    The first `broken` sends fail. The loop ends when a result of the kind `until` was seen.
    """

    def __init__(self, until: type, broken: int = 0) -> None:
        self.brain = Brain(Network(encode.fingerprint), Switchboard(1, Timing(answer=0.05)))
        self.term: int | None = 1
        self.loop = Loop(self.brain, time.monotonic, self, term=lambda: self.term)
        self.switch = FakeSwitch("node-1")
        self.until = until
        self.broken = broken
        self.results: list[Result] = []
        self.ended: list[str] = []
        self.refreshes = 0

    def run(self) -> None:
        self.loop.seen(self.switch.connected())
        for kind in KINDS:
            objects = {node.name: node for node in USUAL_NODES} if kind is NODE else {}
            self.loop.heard(Synced(kind, objects))
        self.loop.run(self)

    def send(self, connection: int, data: bytes) -> None:
        if self.broken:
            self.broken -= 1
            raise RuntimeError("this send was broken on purpose")
        self.switch.receive(data)
        while self.switch.answers:
            self.loop.seen(self.switch.answers.popleft())

    def end(self, connection: int, reason: str) -> None:
        self.ended.append(reason)

    def __call__(self, result: Result) -> None:
        self.results.append(result)
        if isinstance(result, self.until):
            self.loop.stop()

    def refresh(self) -> None:
        self.refreshes += 1


def test_events_are_answered_and_the_watcher_sees_everything() -> None:
    stage = Stage(until=Acknowledged)
    stage.run()
    assert len(stage.switch.flows) == len(stage.brain.network.ledger("node-1").flows) + 1
    assert stage.ended == []


def test_a_fault_is_logged_and_does_not_end_the_loop() -> None:
    stage = Stage(until=Lost, broken=1)
    stage.run()
    assert stage.brain.ready
    assert len(stage.ended) == 1
    assert stage.refreshes > 0


def test_after_a_fault_every_switch_is_compared() -> None:
    stage = Stage(until=Acknowledged)
    stage.run()
    session = stage.brain.switchboard.session("node-1")
    assert session is not None
    assert session.due > time.monotonic() + 1
    stage.brain.distrust(time.monotonic())
    assert session.due <= time.monotonic()


def test_nothing_is_written_from_the_moment_on_that_another_leads() -> None:
    """What was said before is answered by one who stands by, too."""
    stage = Stage(until=StandingBy)

    def lose(now: float) -> list[Result]:
        stage.term = None
        return []

    stage.loop.ask(lose)
    stage.run()
    assert StandsBy() in stage.results
    assert stage.switch.role is ControllerRole.SLAVE
    assert not stage.switch.flows


def test_it_leads_when_it_is_told_to() -> None:
    stage = Stage(until=Acknowledged)
    stage.term = 7
    stage.run()
    assert Leads(7) in stage.results
    assert stage.switch.newest == 7


def test_what_comes_of_a_question_is_carried_out_and_seen() -> None:
    stage = Stage(until=Dumped)
    stage.loop.ask(lambda now: stage.brain.dump("node-9", 4, now))
    stage.loop.seen(stage.switch.connected())
    for kind in KINDS:
        objects = {node.name: node for node in USUAL_NODES} if kind is NODE else {}
        stage.loop.heard(Synced(kind, objects))
    stage.loop.ask(lambda now: stage.brain.dump("node-1", 5, now))
    stage.loop.run(stage)
    assert NotDumped("node-9", (4,), "its switch is not connected") in stage.results
    assert [r.tickets for r in stage.results if isinstance(r, Dumped)] == [(5,)]
