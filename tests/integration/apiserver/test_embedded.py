"""What only the embedded server has: faults on demand, controllers, its own process."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from collections.abc import Iterator

import pytest
from contract_target import Kubectl, kubectls

FAULTS = "/sandbox/faults"


def config(name):
    return {"metadata": {"name": name}}


PATH = "/api/v1/namespaces/default/configmaps"


def version(obj):
    return obj["metadata"]["resourceVersion"]


def test_a_cut_ends_every_watch_and_nothing_is_lost(embedded):
    start = version(embedded.ok("GET", PATH))
    watches = [embedded.watch(PATH, resourceVersion=start) for _ in range(3)]
    embedded.ok("POST", PATH, config("a"))
    for watch in watches:
        watch.until("a")
    assert embedded.ok("POST", FAULTS, {"cutWatches": True})["cutWatches"] == 3
    for watch in watches:
        assert watch.next()["type"] == "CUT"
    embedded.ok("POST", PATH, config("b"))
    again = embedded.watch(PATH, resourceVersion=start)
    assert [e["object"]["metadata"]["name"] for e in again.until("b")] == ["a", "b"]


def test_forgotten_history_is_gone_for_watches_pages_and_exact_lists(embedded):
    start = version(embedded.ok("GET", PATH))
    for name in ("a", "b"):
        embedded.ok("POST", PATH, config(name))
    page = embedded.ok("GET", PATH, limit="1")
    live = embedded.watch(PATH, resourceVersion=version(page))
    embedded.ok("POST", PATH, config("c"))
    live.until("c")
    embedded.ok("POST", FAULTS, {"compact": True})
    late = embedded.watch(PATH, resourceVersion=start)
    event = late.next()
    assert event["type"] == "ERROR"
    assert (event["object"]["code"], event["object"]["reason"]) == (410, "Expired")
    assert late.next() is None
    token = page["metadata"]["continue"]
    gone = embedded.request("GET", PATH, **{"continue": token})
    assert (gone.status, gone.body["reason"]) == (410, "Expired")
    query = {"resourceVersion": start, "resourceVersionMatch": "Exact"}
    assert embedded.request("GET", PATH, **query).status == 410
    # Who was up to date goes on.
    embedded.ok("POST", PATH, config("d"))
    assert [e["object"]["metadata"]["name"] for e in live.until("d")] == ["d"]


def test_a_short_history_forgets_by_itself(embedded):
    start = version(embedded.ok("GET", PATH))
    embedded.ok("POST", PATH, config("a"))
    for number in range(80):
        patch = {"data": {"n": str(number)}}
        embedded.ok("PATCH", f"{PATH}/a", patch, media="application/merge-patch+json")
    event = embedded.watch(PATH, resourceVersion=start).next()
    assert (event["type"], event["object"]["code"]) == ("ERROR", 410)


def test_refusing_ends_when_it_is_told_to(embedded):
    embedded.ok("POST", FAULTS, {"refuseSeconds": 3600})
    answer = embedded.request("GET", PATH)
    assert (answer.status, answer.body["reason"]) == (503, "ServiceUnavailable")
    assert answer.headers["Retry-After"] == "1"
    assert embedded.ok("GET", FAULTS)["refusingSeconds"] > 0
    embedded.ok("POST", FAULTS, {"refuseSeconds": 0})
    embedded.ok("GET", PATH)


def test_a_fault_that_is_none_is_refused(embedded):
    answer = embedded.request("POST", FAULTS, {"burn": True})
    assert answer.status == 400
    assert "burn" in answer.body["message"]


def test_bookmarks_come_by_themselves(embedded):
    start = version(embedded.ok("GET", PATH))
    watch = embedded.watch(PATH, resourceVersion=start, allowWatchBookmarks="true")
    embedded.ok("POST", "/api/v1/namespaces/default/secrets", config("elsewhere"))
    bookmarks = [watch.next() for _ in range(2)]
    assert {event["type"] for event in bookmarks} == {"BOOKMARK"}
    # It leads past what happened elsewhere.
    assert int(version(bookmarks[-1]["object"])) > int(start)


def test_ten_thousand_pods_are_listed_in_pages_and_watched(embedded):
    def fill():
        from ovsnet.sandbox.apiserver.kinds import POD
        from ovsnet.sandbox.apiserver.registry import Write

        pod = {"spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]}}
        registry = embedded.embedded.application.registry
        for number in range(10_000):
            named = pod | {"metadata": {"name": f"p{number:05}"}}
            registry.create(POD, "default", named, Write())

    embedded.embedded.call(fill)
    names: list[str] = []
    query = {"limit": "500"}
    while True:
        page = embedded.ok("GET", "/api/v1/pods", **query)
        names += [item["metadata"]["name"] for item in page["items"]]
        if not page["metadata"].get("continue"):
            break
        query["continue"] = page["metadata"]["continue"]
    assert names == [f"p{number:05}" for number in range(10_000)]


class Kubelets:
    """Kubelets that say of every pod that it runs, and end it when it is to end."""

    def __init__(self, target, nodes: list[str]) -> None:
        self._target = target
        self._stop = threading.Event()
        for node in nodes:
            status = {"conditions": [{"type": "Ready", "status": "True"}]}
            body = {"metadata": {"name": node}, "status": status}
            target.ok("POST", "/api/v1/nodes", body)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        watch = self._target.watch("/api/v1/pods")
        while not self._stop.is_set():
            event = watch.next(timeout=60)
            if event is None or event["type"] == "CUT":
                return
            if event["type"] in ("ADDED", "MODIFIED"):
                self._serve(event["object"])

    def _serve(self, pod) -> None:
        metadata = pod["metadata"]
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
        if not pod["spec"].get("nodeName"):
            return
        if "deletionTimestamp" in metadata:
            self._target.request("DELETE", path, {"gracePeriodSeconds": 0})
        elif pod["status"]["phase"] == "Pending":
            ready = {"type": "Ready", "status": "True"}
            status = {"phase": "Running", "podIP": "10.1.1.1", "conditions": [ready]}
            media = "application/strategic-merge-patch+json"
            self._target.request("PATCH", f"{path}/status", {"status": status}, media=media)


@pytest.fixture
def kubelets(embedded) -> Kubelets:
    return Kubelets(embedded, ["n1", "n2", "n3"])


@pytest.fixture(params=kubectls() or [None])
def local_kubectl(request, embedded, tmp_path) -> Kubectl:
    if request.param is None:
        pytest.skip("no kubectl on PATH, and OVSNET_KUBECTL is not set")
    return Kubectl(request.param, embedded, tmp_path, "default")


WORKLOADS = """
apiVersion: apps/v1
kind: {kind}
metadata: {{name: x}}
spec:
  selector: {{matchLabels: {{app: x}}}}
  template:
    metadata: {{labels: {{app: x}}}}
    spec: {{containers: [{{name: c, image: "i:1"}}]}}
"""


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet"])
def test_a_rollout_is_followed_to_its_end(local_kubectl, kubelets, kind):
    manifest = WORKLOADS.format(kind=kind)
    local_kubectl("apply", "-f", "-", given=manifest)
    if kind != "DaemonSet":
        local_kubectl("scale", f"{kind}/x", "--replicas=3")
    local_kubectl("rollout", "status", f"{kind}/x", "--timeout=30s")
    local_kubectl("set", "image", f"{kind}/x", "c=i:2")
    local_kubectl("rollout", "status", f"{kind}/x", "--timeout=30s")
    path = "{.items[*].spec.containers[0].image}"
    images = local_kubectl("get", "pods", "-o", f"jsonpath={path}").split()
    assert images == ["i:2"] * 3
    local_kubectl("rollout", "restart", f"{kind}/x")
    local_kubectl("rollout", "status", f"{kind}/x", "--timeout=30s")
    if kind == "Deployment":
        local_kubectl("wait", "--for=condition=Available", "deployment/x", "--timeout=30s")
        local_kubectl("rollout", "undo", "deployment/x")
        assert "REVISION" in local_kubectl("rollout", "history", "deployment/x")
    local_kubectl("delete", kind, "x", "--cascade=foreground", "--timeout=30s")
    assert not local_kubectl("get", "pods", "-o", "name")


def test_a_node_is_drained(local_kubectl, kubelets):
    local_kubectl("create", "deployment", "x", "--image=i")
    local_kubectl("scale", "deployment/x", "--replicas=6")
    local_kubectl("rollout", "status", "deployment/x", "--timeout=30s")
    local_kubectl("drain", "n1", "--timeout=30s", namespaced=False)
    local_kubectl("rollout", "status", "deployment/x", "--timeout=30s")
    nodes = local_kubectl("get", "pods", "-o", "jsonpath={.items[*].spec.nodeName}").split()
    assert len(nodes) == 6
    assert "n1" not in nodes


def test_a_namespace_goes_with_all_that_is_in_it(local_kubectl, kubelets):
    local_kubectl("create", "namespace", "gone", namespaced=False)
    local_kubectl.namespace = "gone"
    local_kubectl("create", "deployment", "x", "--image=i")
    local_kubectl("rollout", "status", "deployment/x", "--timeout=30s")
    local_kubectl("delete", "namespace", "gone", "--timeout=30s", namespaced=False)
    left = local_kubectl("get", "pods", "-A", "-o", "name", namespaced=False)
    assert not left


def test_logs_and_exec_say_what_to_use_instead(local_kubectl, kubelets):
    local_kubectl("run", "p", "--image=i")
    local_kubectl("wait", "--for=condition=Ready", "pod/p", "--timeout=30s")
    for arguments in (("logs", "p"), ("exec", "p", "--", "true"), ("port-forward", "p", "80")):
        refused = local_kubectl.run(*arguments)
        assert refused.returncode != 0
        assert "ovsnet sandbox exec NAMESPACE/POD" in refused.stderr


@pytest.fixture
def namespace_path() -> Iterator[str]:
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and iproute2")
    name = f"ovsapi-{uuid.uuid4().hex[:8]}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        yield f"/run/netns/{name}"
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)


def wait_for(path) -> None:
    for _ in range(400):
        if path.exists():
            return
        time.sleep(0.05)
    raise AssertionError(f"{path} never came")


def test_the_process_listens_here_and_in_a_namespace(tmp_path, namespace_path):
    here, there = tmp_path / "here", tmp_path / "there"
    command = [sys.executable, "-m", "ovsnet.sandbox.apiserver", "--listen", "127.0.0.1:0"]
    command += ["--listen-in-netns", f"{namespace_path}=127.0.0.1:6443"]
    command += ["--kubeconfig-out", str(here)]
    command += ["--kubeconfig-out", f"{there}=http://127.0.0.1:6443"]
    command += ["--service-cidr", "10.1.0.0/24", "--pod-cidr", "10.2.0.0/16"]
    command += ["--advertise", "192.0.2.9:7443"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        wait_for(there)
        text = here.read_text()
        url = text.split("server: ")[1].split()[0]
        with urllib.request.urlopen(f"{url}/api/v1/services") as answer:
            services = json.load(answer)
        assert services["items"][0]["spec"]["clusterIP"] == "10.1.0.1"
        path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes"
        with urllib.request.urlopen(url + path) as answer:
            slice_ = json.load(answer)
        assert slice_["endpoints"][0]["addresses"] == ["192.0.2.9"]
        assert slice_["ports"][0]["port"] == 7443
        name = namespace_path.rpartition("/")[2]
        script = (
            "import urllib.request as u; print(u.urlopen('http://127.0.0.1:6443/readyz').read())"
        )
        inside = subprocess.run(
            ["ip", "netns", "exec", name, sys.executable, "-c", script],
            capture_output=True,
            text=True,
            check=True,
        )
        assert "ok" in inside.stdout
    finally:
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "for the sandbox and for tests only" in log


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected --listen"),
        (["--listen", "here"], "expected ADDRESS:PORT"),
        (["--listen", "127.0.0.1:0", "--service-cidr", "10.0.0.0/8,11.0.0.0/8"], "one of each"),
        (["--listen", "127.0.0.1:0", "--controllers", "nobody"], "no such controllers"),
        (["--listen-in-netns", "/nowhere=127.0.0.1:1"], "cannot listen"),
        (["--listen", "127.0.0.1:0", "--advertise", "here"], "expected ADDRESS:PORT"),
        (["--listen", "127.0.0.1:0", "--advertise", "127.0.0.1:1"], "in the loopback range"),
    ],
)
def test_a_wrong_start_says_what_is_wrong(arguments, message):
    command = [sys.executable, "-m", "ovsnet.sandbox.apiserver", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert message in done.stderr
