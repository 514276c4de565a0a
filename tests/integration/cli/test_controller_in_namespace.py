"""The command line asks a controller that serves inside another network namespace."""

from __future__ import annotations

import os
import uuid
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from ovsnet.cli import controller
from ovsnet.controller.http import HttpServer, Sources
from ovsnet.controller.inquiry.plan import Plan, read_plan
from ovsnet.controller.inquiry.why import Why
from ovsnet.controller.status import Status, read_owners, read_sets, read_status
from ovsnet.sandbox import netns

DOCUMENT = Status("1.2", 0, datetime(2025, 1, 31, tzinfo=UTC), True, (), ())

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def namespace():
    path = Path("/run/netns") / f"ovsnet-test-cli-{uuid.uuid4().hex[:8]}"
    netns.create(path)
    yield path
    netns.delete(path)


@pytest.fixture
def server(namespace):
    sources = Sources(
        status=lambda: DOCUMENT,
        owners=lambda: {"0x2ab": "pod shop/web"},
        sets=lambda: {"0x7": "shop/web, port http"},
        registry=CollectorRegistry(),
        healthy=lambda: None,
        ready=lambda: None,
        why=lambda question: Why(question.source, question.destination, "tcp", None, False),
        plan=lambda proposal: Plan(()),
        refresh=lambda: DOCUMENT,
    )
    with netns.within(namespace, lambda: HttpServer(("127.0.0.1", 0), sources)) as made:
        yield made


def test_the_request_is_made_inside_and_only_there(namespace, server):
    url = f"http://127.0.0.1:{server.address[1]}"
    inside = controller.Target(url, "that of the sandbox", namespace)
    assert read_status(controller.fetch(inside, "/status")) == DOCUMENT
    assert read_owners(controller.fetch(inside, "/owners")) == {"0x2ab": "pod shop/web"}
    assert read_sets(controller.fetch(inside, "/sets")) == {"0x7": "shop/web, port http"}
    with pytest.raises(controller.UnreachableError, match="404"):
        controller.fetch(inside, "/nonsense")
    with pytest.raises(controller.UnreachableError):
        controller.fetch(controller.Target(url, "as it was given"), "/status")


def test_what_is_sent_gets_there(namespace, server):
    target = controller.Target(
        f"http://127.0.0.1:{server.address[1]}", "that of the sandbox", namespace
    )
    body = b'{"policies": []}'
    assert read_plan(controller.fetch(target, "/plan", body=body)) == Plan(())
    with pytest.raises(controller.RefusedError, match="expected policies"):
        controller.fetch(target, "/plan", body=b"7")
