"""Questions to agents: who is asked, who answers, and in which order."""

from __future__ import annotations

import random
import threading
from ipaddress import ip_address

import pytest

from ovsnet.controller.live import LiveConnection, Questions, Told, read_told

WEB = (6, "10.244.1.7", "10.244.2.9", 40000, 80)
WEB_VALUE = LiveConnection(6, ip_address("10.244.1.7"), ip_address("10.244.2.9"), 40000, 80)
PING = (58, "fd00::1", "fd00::2", 0, 0)


class Asking:
    """Asks in a thread of its own; `answers` is there when it is done."""

    def __init__(self, questions, *nodes, seconds=20.0):
        self.answers = None
        self._thread = threading.Thread(target=self._run, args=(questions, nodes, seconds))
        self._thread.start()

    def _run(self, questions, nodes, seconds):
        self.answers = questions.connections(nodes, seconds)

    def done(self):
        self._thread.join(20)
        return self.answers


def question(questions, node, seconds=20.0):
    return questions.wait(node).result(seconds)


def test_an_agent_that_waits_is_asked_and_its_answer_arrives():
    questions = Questions()
    waiting = questions.wait("node-1")
    asking = Asking(questions, "node-1")
    number = waiting.result(20)
    questions.told(Told("node-1", number, (WEB, PING)))
    assert asking.done() == {
        "node-1": (
            WEB_VALUE,
            LiveConnection(58, ip_address("fd00::1"), ip_address("fd00::2"), 0, 0),
        )
    }


def test_an_agent_that_comes_later_is_asked_when_it_comes():
    questions = Questions()
    asking = Asking(questions, "node-1")
    number = None
    while number is None:
        waiting = questions.wait("node-1")
        number = waiting.result(20)
    questions.told(Told("node-1", number))
    assert asking.done() == {"node-1": ()}


def test_of_several_nodes_each_one_gets_its_own_question():
    questions = Questions()
    first, second = questions.wait("node-1"), questions.wait("node-2")
    asking = Asking(questions, "node-1", "node-2")
    numbers = first.result(20), second.result(20)
    assert numbers[0] != numbers[1]
    questions.told(Told("node-2", numbers[1], (WEB,)))
    questions.told(Told("node-1", numbers[0]))
    assert asking.done() == {"node-1": (), "node-2": (WEB_VALUE,)}


def test_a_node_that_does_not_answer_is_told_of_and_holds_no_other_one_up():
    questions = Questions()
    waiting = questions.wait("node-1")
    asking = Asking(questions, "node-1", "node-2", seconds=0.3)
    questions.told(Told("node-1", waiting.result(20)))
    assert asking.done() == {
        "node-1": (),
        "node-2": "its agent has not told them within 0.3 s",
    }


def test_reasons_instead_of_connections():
    questions = Questions()
    for told, expected in (
        ({"error": "ovs-vswitchd does not run"}, "ovs-vswitchd does not run"),
        ({"connections": (WEB,), "cut": True}, "it has more than 1 live connections"),
    ):
        waiting = questions.wait("node-1")
        asking = Asking(questions, "node-1")
        questions.told(Told("node-1", waiting.result(20), **told))
        assert asking.done() == {"node-1": expected}


def test_a_question_that_was_taken_and_not_answered_is_handed_out_again():
    questions = Questions()
    waiting = questions.wait("node-1")
    asking = Asking(questions, "node-1")
    lost = waiting.result(20)
    assert question(questions, "node-1") == lost, "its connection broke, and it asks again"
    questions.told(Told("node-1", lost))
    assert asking.done() == {"node-1": ()}
    assert not questions.wait("node-1").done()


def test_of_two_that_wait_for_one_node_the_later_one_is_asked():
    questions = Questions()
    former, later = questions.wait("node-1"), questions.wait("node-1")
    assert former.result(0) is None
    asking = Asking(questions, "node-1")
    questions.told(Told("node-1", later.result(20)))
    assert asking.done() == {"node-1": ()}


def test_one_that_has_left_is_not_asked_and_does_not_take_the_place_of_another():
    questions = Questions()
    gone = questions.wait("node-1")
    gone.cancel()
    questions.leave("node-1", gone)
    former, later = questions.wait("node-1"), questions.wait("node-1")
    questions.leave("node-1", former)
    asking = Asking(questions, "node-1")
    questions.told(Told("node-1", later.result(20)))
    assert asking.done() == {"node-1": ()}


def test_one_that_is_cancelled_as_it_is_asked_loses_nothing():
    questions = Questions()
    cancelled = questions.wait("node-1")
    cancelled.cancel()
    asking = Asking(questions, "node-1")
    number = None
    while number is None:
        number = question(questions, "node-1")
    questions.told(Told("node-1", number))
    assert asking.done() == {"node-1": ()}


def test_answers_of_another_node_or_too_late_are_passed_over():
    questions = Questions()
    waiting = questions.wait("node-1")
    asking = Asking(questions, "node-1", seconds=0.3)
    number = waiting.result(20)
    questions.told(Told("node-2", number, (WEB,)))
    assert asking.done() == {"node-1": "its agent has not told them within 0.3 s"}
    questions.told(Told("node-1", number, (WEB,)))
    assert not questions.wait("node-1").done(), "nobody asks any more"


def test_many_ask_at_once_and_everybody_gets_an_answer_of_their_own():
    questions = Questions()
    stop = threading.Event()

    def agent(node):
        chance = random.Random(node)
        while not stop.is_set():
            waiting = questions.wait(node)
            try:
                number = waiting.result(0.01)
            except TimeoutError:
                waiting.cancel()
                questions.leave(node, waiting)
                continue
            if number is not None and chance.random() < 0.7:
                questions.told(Told(node, number, ((17, "192.0.2.1", "192.0.2.2", number, 1),)))

    agents = [threading.Thread(target=agent, args=(f"node-{n}",)) for n in range(3)]
    for each in agents:
        each.start()
    askings = [Asking(questions, "node-0", "node-1", "node-2") for _ in range(40)]
    found = [asking.done() for asking in askings]
    stop.set()
    for each in agents:
        each.join(20)
    ports = [live.source_port for answer in found for told in answer.values() for live in told]
    assert len(ports) == len(set(ports)) == 3 * 40


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"[]", "object"),
        (b'{"node": "n"}', "question"),
        (b'{"node": "n", "question": 1, "connections": [[6, "a"]]}', "connections"),
        (b'{"node": "n", "question": 1, "connections": [[6, "a", "b", 1, 65536]]}', "connections"),
        (b'{"node": "n", "question": 1, "connections": [[256, "a", "b", 1, 1]]}', "connections"),
    ],
)
def test_what_is_no_answer(body, field):
    with pytest.raises(ValueError, match=field):
        read_told(body)


def test_an_address_that_is_none_is_refused_before_anybody_gets_it():
    questions = Questions()
    waiting = questions.wait("node-1")
    asking = Asking(questions, "node-1", seconds=0.3)
    with pytest.raises(ValueError, match="nowhere"):
        questions.told(Told("node-1", waiting.result(20), ((6, "nowhere", "10.0.0.1", 1, 1),)))
    assert isinstance(asking.done()["node-1"], str)
