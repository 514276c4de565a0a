"""The controller's HTTP port, asked over a real socket."""

from __future__ import annotations

import json
import socket
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from ovsnet.controller.http import HttpServer, Sources
from ovsnet.controller.inquiry.questions import Proposal, QuestionError, UnableError
from ovsnet.controller.inquiry.why import Why, read_why
from ovsnet.controller.metrics import Metrics
from ovsnet.controller.status import (
    Refresh,
    Status,
    read_owners,
    read_refresh,
    read_sets,
    read_status,
)
from ovsnet.model import Direction, NetworkPolicy

STARTED = datetime(2025, 1, 31, 12, 0, tzinfo=UTC)
DOCUMENT = Status("1.2", 3, STARTED, True, (), ())


class Controller:
    def __init__(self):
        self.metrics = Metrics.on(CollectorRegistry(), "1.2")
        self.wrong = None
        self.planned = []
        self.status = lambda: DOCUMENT
        self.why = lambda question: Why(question.source, question.destination, "tcp", None, False)
        self.sources = Sources(
            status=lambda: self.status(),  # noqa: PLW0108  tests replace it
            owners=lambda: {"0x2ab": "pod shop/web"},
            sets=lambda: {"0x7": "shop/web, port http"},
            registry=self.metrics.registry,
            healthy=lambda: None,
            ready=lambda: self.wrong,
            why=lambda question: self.why(question),  # noqa: PLW0108  tests replace it
            plan=self.planned.append,
            refresh=lambda: Refresh(7),
        )
        self.server = HttpServer(("127.0.0.1", 0), self.sources)

    def ask(self, path, method="GET", body=None, **headers):
        host, port = self.server.address
        request = urllib.request.Request(f"http://{host}:{port}{path}", body, method=method)
        for name, value in headers.items():
            request.add_header(name, value)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=20) as answer:
                return answer.status, dict(answer.headers), answer.read()
        except urllib.error.HTTPError as error:
            return error.code, dict(error.headers), error.read()


@pytest.fixture
def controller():
    made = Controller()
    with made.server:
        yield made


def test_status_can_be_read_back(controller):
    code, headers, body = controller.ask("/status")
    assert (code, headers["Content-Type"]) == (200, "application/json")
    assert read_status(body) == DOCUMENT
    assert json.loads(body)["started"] == "2025-01-31T12:00:00Z"


def test_owners_can_be_read_back(controller):
    code, _, body = controller.ask("/owners")
    assert code == 200
    assert read_owners(body) == {"0x2ab": "pod shop/web"}


def test_sets_of_endpoints_can_be_read_back(controller):
    code, _, body = controller.ask("/sets")
    assert code == 200
    assert read_sets(body) == {"0x7": "shop/web, port http"}


def test_metrics_are_what_prometheus_reads(controller):
    controller.metrics.flow_writes.inc(7)
    code, headers, body = controller.ask("/metrics")
    assert code == 200
    assert headers["Content-Type"].startswith("text/plain")
    samples = {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }
    assert samples["ovsnet_flow_writes_total", ()] == 7
    assert "process_resident_memory_bytes" in {name for name, _ in samples}


def test_openmetrics_for_those_who_ask(controller):
    _, headers, body = controller.ask("/metrics", Accept="application/openmetrics-text")
    assert headers["Content-Type"].startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


def test_health_and_readiness(controller):
    assert controller.ask("/healthz")[::2] == (200, b"ok\n")
    assert controller.ask("/readyz")[::2] == (200, b"ok\n")
    controller.wrong = "Pod objects have not been listed"
    assert controller.ask("/readyz")[::2] == (503, b"Pod objects have not been listed\n")
    assert controller.ask("/healthz")[0] == 200


def test_another_path(controller):
    code, headers, body = controller.ask("/nodes")
    assert (code, headers["Content-Type"]) == (404, "application/json")
    assert json.loads(body)["error"] == (
        "nothing is served at /nodes; there is "
        "/healthz, /metrics, /owners, /plan, /readyz, /refresh, /sets, /status, /why"
    )


def test_another_method(controller):
    code, headers, body = controller.ask("/status", "DELETE")
    assert (code, headers["Allow"]) == (405, "GET, HEAD")
    assert json.loads(body)["error"] == "DELETE is not possible here; /status takes GET, HEAD"


def test_head(controller):
    assert controller.ask("/status", "HEAD")[::2] == (200, b"")


def test_a_question_and_its_answer(controller):
    code, headers, body = controller.ask("/why?source=shop%2Fweb&destination=fd00::1&port=http")
    assert (code, headers["Content-Type"]) == (200, "application/json")
    assert read_why(body) == Why("shop/web", "fd00::1", "tcp", None, False)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("", "missing required field `source`; a question has source, destination, protocol, port"),
        ("source=a/b", "missing required field `destination`"),
        ("source=a/b&destination=c/d&colour=red", "unknown field `colour`"),
    ],
)
def test_a_question_that_is_none(controller, query, words):
    code, _, body = controller.ask(f"/why?{query}")
    assert code == 400
    assert words in json.loads(body)["error"]


POLICY = b"""{
    "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
    "metadata": {"name": "deny", "namespace": "shop"},
    "spec": {"podSelector": {}, "policyTypes": ["Egress"]}
}"""


def test_policies_that_are_proposed(controller):
    code, headers, body = controller.ask("/plan", "POST", b'{"policies": [%b]}' % POLICY)
    assert (code, headers["Content-Type"], body) == (200, "application/json", b"null\n")
    controller.ask("/plan", "POST", b'{"policies": [], "delete": true}')
    deny = NetworkPolicy("shop", "deny", directions=frozenset({Direction.EGRESS}))
    assert controller.planned == [Proposal((deny,)), Proposal((), delete=True)]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "expected policies and whether to delete them"),
        (b"[]", "expected policies and whether to delete them"),
        (b'{"policies": 7}', "expected policies and whether to delete them"),
        (b'{"policies": [], "now": true}', "unknown field `now`"),
        (b'{"policies": [%b, 7]}' % POLICY, "policies[1] is no NetworkPolicy"),
        (b'{"policies": [{"spec": {}}]}', "policies[0] is no NetworkPolicy"),
        (b'{"policies": [{"metadata": {"name": "x"}}]}', "metadata.namespace: missing"),
    ],
)
def test_a_proposal_that_is_none(controller, body, words):
    code, _, answer = controller.ask("/plan", "POST", body)
    assert code == 400
    assert words in json.loads(answer)["error"]
    assert not controller.planned


def test_a_plan_is_only_made_of_something(controller):
    code, headers, _ = controller.ask("/plan")
    assert (code, headers["Allow"]) == (405, "POST")


@pytest.mark.parametrize(
    ("fault", "code"),
    [(QuestionError("there is no pod 'x'"), 400), (UnableError("nothing is known yet"), 503)],
)
def test_why_there_is_no_answer(controller, fault, code):
    def fail(_):
        raise fault

    controller.why = fail
    answer = controller.ask("/why?source=a/b&destination=c/d")
    assert answer[0] == code
    assert json.loads(answer[2]) == {"error": str(fault)}


def test_a_fault_is_not_shown_to_strangers(controller):
    def fail():
        raise RuntimeError("with a secret")

    controller.status = fail
    code, _, body = controller.ask("/status")
    assert code == 500
    assert b"secret" not in body
    assert controller.ask("/healthz")[0] == 200


def test_a_slow_answer_holds_up_no_other(controller):
    asked, release = threading.Event(), threading.Event()

    def slow():
        asked.set()
        release.wait(20)
        return DOCUMENT

    controller.status = slow
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(controller.ask, "/status")
        assert asked.wait(20)
        assert controller.ask("/healthz")[0] == 200
        release.set()
        assert waiting.result()[0] == 200


def test_slow_questions_hold_up_neither_others_nor_the_end():
    made = Controller()
    asked, release = threading.Semaphore(0), threading.Event()

    def slow(question):
        asked.release()
        release.wait(20)
        return Why(question.source, question.destination, "tcp", None, False)

    made.why = slow
    with ThreadPoolExecutor(20) as pool:
        with made.server:
            waiting = [pool.submit(made.ask, "/why?source=a/b&destination=c/d") for _ in range(20)]
            for _ in range(4):
                assert asked.acquire(timeout=20)
            assert made.ask("/healthz")[0] == 200
            assert made.ask("/status")[0] == 200
            assert not asked.acquire(timeout=0.1), "the fifth waits for its turn"
        release.set()
        assert all(each.exception() for each in waiting), "the end does not wait for answers"


def test_a_client_that_says_nothing_does_not_hold_up_the_end():
    made = Controller()
    address = made.server.address
    with made.server, socket.create_connection(address):
        assert made.ask("/healthz")[0] == 200
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(address)


def test_an_address_that_is_taken():
    made = Controller()
    with made.server, pytest.raises(OSError, match="in use"):
        HttpServer(made.server.address, made.sources)


def test_ipv6():
    made = Controller()
    server = HttpServer(("::1", 0), made.sources)
    with server:
        host, port = server.address
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://[{host}]:{port}/healthz", timeout=20) as answer:
            assert answer.read() == b"ok\n"
    made.server.stop()


def test_stopping_twice_and_without_a_start():
    made = Controller()
    made.server.stop()
    made.server.stop()


def test_fresh_lists_are_asked_for_by_a_post():
    with (made := Controller()).server:
        status, _, body = made.ask("/refresh", method="POST", body=b"")
        assert (status, read_refresh(body)) == (200, 7)
        assert made.ask("/refresh")[0] == 405
