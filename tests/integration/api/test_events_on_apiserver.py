"""Events about policies on API servers, as kubectl shows them, and through faults."""

from __future__ import annotations

import shutil
import subprocess
import threading
import urllib.error
import urllib.request

import pytest
from api_servers import SERVERS, api_server

from ovsnet.api import connect
from ovsnet.api.recorder import Pace, Recorder
from ovsnet.api.remark import Remark, Subject

PATIENCE = 30
PACE = Pace(quiet=0.0, backoff=0.02, backoff_most=0.2)
POLICIES = "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies"
EVENTS = "/api/v1/namespaces/default/events"


@pytest.fixture(params=SERVERS)
def server(request):
    with api_server(request.param) as made:
        yield made


@pytest.fixture
def recorder(server):
    connection = connect(server.kubeconfig)
    made = Recorder(connection, pace=PACE)
    made.start()
    yield made
    made.stop()
    made._thread.join(PATIENCE)
    assert not made._thread.is_alive()
    connection.close()


def policy(server, name="db"):
    """The subject of a policy that was just created."""
    made = server.send("POST", POLICIES, {"metadata": {"name": name}, "spec": {}})
    uid = made["metadata"]["uid"]
    return Subject("networking.k8s.io/v1", "NetworkPolicy", "default", name, uid)


def events(server, count):
    """The Events in the namespace, once one of them has happened so often."""
    pause = threading.Event()
    for _ in range(PATIENCE * 50):
        found = server.send("GET", EVENTS)["items"]
        if any(event["count"] >= count for event in found):
            return found
        pause.wait(0.02)
    pytest.fail(f"no event was counted {count} times: {found}")


def test_an_event_is_written_and_counted(server, recorder):
    subject = policy(server)
    for count in (1, 2, 3):
        recorder.record(Remark(subject, "NotEnforced", f"for the {count}. time", "spec.tier"))
        (event,) = events(server, count)
        assert event["message"] == f"for the {count}. time"
    recorder.record(Remark(subject, "NotEnforced", "something else", "spec.other"))
    recorder.record(Remark(subject, "NotEnforced", "for the last time", "spec.tier"))
    assert {event["message"] for event in events(server, 4)} == {
        "something else",
        "for the last time",
    }


@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not installed")
def test_kubectl_shows_it_with_the_policy(server, recorder, tmp_path):
    recorder.record(Remark(policy(server, "web"), "NotEnforced", "of another policy"))
    subject = policy(server)
    for message in ("once", "spec.tier: unknown field"):
        recorder.record(Remark(subject, "NotEnforced", message, "spec.tier"))
    events(server, 2)
    command = ("kubectl", f"--kubeconfig={server.kubeconfig}", f"--cache-dir={tmp_path}")
    told = subprocess.run(
        [*command, "events", "--for", "networkpolicy/db"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    ).stdout
    _, line = told.splitlines()
    for words in ("(x2 over ", "Warning", "NotEnforced", "NetworkPolicy/db", "unknown field"):
        assert words in line


def test_an_event_waits_for_a_server_that_refuses_everything(server, recorder):
    subject = policy(server)
    server.need_embedded("refuses everything when it is told to")
    server.send("POST", "/sandbox/faults", {"refuseSeconds": 0.5})
    recorder.record(Remark(subject, "NotEnforced", "late", "spec"))
    pause = threading.Event()
    for _ in range(PATIENCE * 50):
        try:
            (event,) = events(server, 1)
        except urllib.error.HTTPError:
            pause.wait(0.02)
        else:
            break
    assert event["message"] == "late"


def test_an_event_in_a_namespace_that_is_gone_holds_up_no_other(server, recorder):
    subject = policy(server)
    stray = Subject(subject.api_version, subject.kind, "nowhere", "db", "uid")
    recorder.record(Remark(stray, "NotEnforced", "lost", "spec"))
    recorder.record(Remark(subject, "NotEnforced", "told", "spec"))
    (event,) = events(server, 1)
    assert event["message"] == "told"
