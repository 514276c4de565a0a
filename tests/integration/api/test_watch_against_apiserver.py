"""Watches against the sandbox's API server, which real clients write to: faults, then the truth."""

from __future__ import annotations

import json
import queue
import random
import threading
import urllib.request
from ipaddress import ip_address

import pytest
from api_servers import SERVERS, api_server
from msgspec.structs import replace

from ovsnet.api import (
    ENDPOINT_SLICE,
    KINDS,
    NODE,
    POD,
    SERVICE,
    Changed,
    Deleted,
    Fresh,
    Stale,
    Synced,
    Timing,
    connect,
)
from ovsnet.api.watch import Watch, watch_node
from ovsnet.model import PodRef, Protocol, ServicePort, ServiceRef, SliceEndpoint, SlicePort

PATIENCE = 30
TIMING = Timing(watch=20.0, stall=10.0, backoff=0.02, backoff_most=0.2, page=7)


@pytest.fixture(params=SERVERS)
def server(request):
    with api_server(request.param) as made:
        yield made


class Client:
    """Writes objects, and asks for faults."""

    def __init__(self, server):
        self.server = server

    def send(self, method, path, body=None, media="application/json"):
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": media}
        request = urllib.request.Request(self.server.url + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return json.load(answer)

    def faults(self, **what):
        self.server.need_embedded("refuses and forgets when it is told to")
        self.send("POST", "/sandbox/faults", what)

    def node(self, name, **spec):
        self.send("POST", "/api/v1/nodes", {"metadata": {"name": name}, "spec": spec})

    def pod(self, name, namespace="default", labels=None):
        body = {
            "metadata": {"name": name, "labels": labels or {}},
            "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "i"}]},
        }
        self.send("POST", f"/api/v1/namespaces/{namespace}/pods", body)

    def label(self, name, value, namespace="default"):
        path = f"/api/v1/namespaces/{namespace}/pods/{name}"
        pod = self.send("GET", path)
        pod["metadata"]["labels"] = {"v": value}
        self.send("PUT", path, pod)

    def patch(self, path, body):
        return self.send("PATCH", path, body, "application/merge-patch+json")

    def delete(self, name, namespace="default"):
        path = f"/api/v1/namespaces/{namespace}/pods/{name}"
        self.send("DELETE", path, {"gracePeriodSeconds": 0})

    def truth(self, path="/api/v1/pods"):
        items = self.send("GET", path)["items"]
        return {
            (i["metadata"]["namespace"], i["metadata"]["name"]): (
                i["metadata"]["uid"],
                i["metadata"].get("labels", {}).get("v"),
            )
            for i in items
        }


class Follower:
    """A consumer's view of pods, kept from the events alone."""

    def __init__(self, connection, kind=POD):
        self.lock = threading.Condition()
        self.view = None
        self.seen = []
        self.watch = Watch(connection, kind, self.take, timing=TIMING)
        self.watch.start()

    def take(self, event):
        with self.lock:
            self.seen.append(event)
            match event:
                case Synced(_, objects):
                    self.view = dict(objects)
                case Changed(_, key, value):
                    assert self.view.get(key) != value
                    self.view[key] = value
                case Deleted(_, key, uid):
                    assert self.view.pop(key).uid == uid
            self.lock.notify_all()

    def wait(self, condition):
        with self.lock:
            assert self.lock.wait_for(lambda: condition(self), PATIENCE), self.seen[-5:]

    def summary(self):
        return {k: (p.uid, dict(p.labels).get("v")) for k, p in (self.view or {}).items()}

    def count(self, kind):
        return sum(isinstance(event, kind) for event in self.seen)


@pytest.fixture
def scene(server):
    connection = connect(server.kubeconfig)
    client = Client(server)
    followers = []

    def follow(kind=POD):
        followers.append(Follower(connection, kind))
        return followers[-1]

    yield client, follow
    for follower in followers:
        follower.watch.stop()
    connection.close()


def test_every_kind_is_listed_and_followed(scene):
    client, follow = scene
    client.node("n1", podCIDR="10.1.0.0/24", podCIDRs=["10.1.0.0/24", "fd00:1::/64"])
    followers = {kind.name: follow(kind) for kind in KINDS}
    for follower in followers.values():
        follower.wait(lambda f: f.view is not None)
    assert str(followers["Node"].view["n1"].range6) == "fd00:1::/64"
    assert "default" in followers["Namespace"].view
    client.pod("a", labels={"v": "1"})
    followers["Pod"].wait(lambda f: PodRef("default", "a") in f.view)
    pod = followers["Pod"].view[PodRef("default", "a")]
    assert (pod.node, pod.labels) == ("n1", (("v", "1"),))


SERVICES = "/api/v1/namespaces/default/services"
OWN = ServiceRef("default", "kubernetes")
WEB = ServiceRef("default", "web")


@pytest.fixture(params=SERVERS)
def served(request):
    """A server that makes EndpointSlices of pods, and its own."""
    controllers = ("endpointslice", "garbage")
    with api_server(request.param, controllers=controllers, advertised="192.0.2.9") as server:
        yield Client(server), connect(server.kubeconfig)


@pytest.fixture
def services(served):
    """What is heard of Services and of EndpointSlices, and who writes them."""
    client, connection = served
    followers = [Follower(connection, kind) for kind in (SERVICE, ENDPOINT_SLICE)]
    for follower in followers:
        follower.wait(lambda f: f.view is not None)
    yield client, *followers
    for follower in followers:
        follower.watch.stop()
    connection.close()


def web(follower):
    """The one slice of the service `web`, or None."""
    found = [s for s in follower.view.values() if s.owner == WEB]
    return found[0] if found else None


def endpoints(*expected):
    """Whether the service `web` has one slice, with these endpoints."""

    def holds(follower):
        slice_ = web(follower)
        return slice_ is not None and slice_.endpoints == expected

    return holds


def test_the_servers_own_service_is_there_from_the_start(services):
    client, heard, slices = services
    service = heard.view[OWN]
    assert [str(address) for address in service.addresses] == ["10.96.0.1"]
    assert service.ports == (ServicePort("https", Protocol.TCP, 443),)
    assert service.created
    (slice_,) = slices.view.values()
    assert slice_.owner == OWN
    assert slice_.ports == (SlicePort("https", Protocol.TCP, client.server.port),)
    assert slice_.endpoints == (SliceEndpoint(ip_address("192.0.2.9")),)


def test_a_service_of_every_type_is_heard(services):
    client, heard, _ = services
    port = {"port": 80}
    spec = {"ports": [port], "ipFamilyPolicy": "RequireDualStack"}
    client.send("POST", SERVICES, {"metadata": {"name": "web"}, "spec": spec})
    heard.wait(lambda f: WEB in f.view)
    made = heard.view[WEB]
    assert (made.families, len(made.addresses)) == ((4, 6), 2)
    assert made.ports == (ServicePort("", Protocol.TCP, 80),)
    assert not made.faults

    client.patch(f"{SERVICES}/web", {"spec": {"type": "NodePort"}})
    heard.wait(lambda f: f.view[WEB].ports[0].node_port)

    balanced = {"type": "LoadBalancer", "externalTrafficPolicy": "Local"}
    client.patch(f"{SERVICES}/web", {"spec": balanced})
    heard.wait(lambda f: f.view[WEB].health_check and f.view[WEB].external_local)
    ingress = [{"ip": "198.51.100.1"}, {"ip": "198.51.100.2", "ipMode": "Proxy"}]
    client.patch(f"{SERVICES}/web/status", {"status": {"loadBalancer": {"ingress": ingress}}})
    heard.wait(lambda f: f.view[WEB].load_balancer == (ip_address("198.51.100.1"),))

    client.patch(f"{SERVICES}/web", {"spec": {"type": "ClusterIP"}})
    heard.wait(lambda f: f.view[WEB] == made)

    name = {"type": "ExternalName", "externalName": "example.org"}
    client.patch(f"{SERVICES}/web", {"spec": name})
    heard.wait(lambda f: not f.view[WEB].addresses and not f.view[WEB].ports)

    label = {"metadata": {"labels": {"service.kubernetes.io/service-proxy-name": "other"}}}
    client.patch(f"{SERVICES}/web", label)
    heard.wait(lambda f: WEB not in f.view)
    unlabel = {"metadata": {"labels": {"service.kubernetes.io/service-proxy-name": None}}}
    client.patch(f"{SERVICES}/web", unlabel)
    heard.wait(lambda f: WEB in f.view)
    client.send("DELETE", f"{SERVICES}/web")
    heard.wait(lambda f: set(f.view) == {OWN})


def test_endpoints_come_and_change_and_go(services):
    client, heard, slices = services
    zone = {"topology.kubernetes.io/zone": "a"}
    client.send("POST", "/api/v1/nodes", {"metadata": {"name": "n1", "labels": zone}})
    spec = {
        "selector": {"app": "web"},
        "ports": [{"port": 80, "targetPort": 8080}],
        "trafficDistribution": "PreferSameNode",
    }
    client.send("POST", SERVICES, {"metadata": {"name": "web"}, "spec": spec})
    slices.wait(endpoints())
    client.pod("p", labels={"app": "web"})
    path = "/api/v1/namespaces/default/pods/p"
    ready = [{"type": "Ready", "status": "True"}]
    status = {"phase": "Running", "podIPs": [{"ip": "10.1.0.3"}]}
    client.patch(f"{path}/status", {"status": status | {"conditions": ready}})
    there = SliceEndpoint(
        ip_address("10.1.0.3"),
        node="n1",
        zones=("a",),
        nodes=("n1",),
        pod=PodRef("default", "p"),
    )
    slices.wait(endpoints(there))
    assert web(slices).ports == (SlicePort("", Protocol.TCP, 8080),)

    client.patch(f"{path}/status", {"status": status | {"conditions": []}})
    absent = replace(there, ready=False, serving=False, zones=(), nodes=())
    slices.wait(endpoints(absent))
    client.patch(f"{path}/status", {"status": status | {"conditions": ready}})
    slices.wait(endpoints(there))
    client.send("DELETE", path, {"gracePeriodSeconds": 30})
    slices.wait(endpoints(replace(absent, serving=True, terminating=True)))
    client.delete("p")
    slices.wait(endpoints())

    client.send("DELETE", f"{SERVICES}/web")
    slices.wait(lambda f: web(f) is None)
    heard.wait(lambda f: set(f.view) == {OWN})


def test_a_list_of_several_pages(scene):
    client, follow = scene
    for number in range(20):
        client.pod(f"p{number}")
    follower = follow()
    follower.wait(lambda f: f.view is not None and len(f.view) == 20)
    assert follower.count(Synced) == 1
    assert follower.count(Changed) == 0


def test_a_watch_that_is_cut_resumes_without_a_list(scene):
    client, follow = scene
    client.pod("a")
    client.pod("b")
    follower = follow()
    follower.wait(lambda f: f.view is not None)
    for round_ in range(3):
        client.faults(cutWatches=True)
        client.label("a", str(round_))
        follower.wait(lambda f, v=str(round_): ("v", v) in f.view[PodRef("default", "a")].labels)
    client.faults(cutWatches=True)
    client.delete("b")
    follower.wait(lambda f: set(f.view) == {PodRef("default", "a")})
    assert follower.count(Synced) == 1
    assert follower.count(Changed) == 3
    assert follower.count(Deleted) == 1


def test_410_brings_a_list_and_exactly_what_was_missed(scene):
    client, follow = scene
    for name in "abc":
        client.pod(name)
    follower = follow()
    follower.wait(lambda f: f.view is not None)
    client.faults(refuseSeconds=3600, cutWatches=True)
    follower.wait(lambda f: f.count(Stale) == 1)
    client.faults(refuseSeconds=0)
    client.delete("a")
    client.pod("d")
    client.label("b", "new")
    client.faults(compact=True, cutWatches=True)
    follower.wait(lambda f: f.summary() == client.truth())
    assert follower.count(Stale) == follower.count(Fresh)


def test_while_the_server_refuses_everything_nothing_is_told(scene):
    client, follow = scene
    client.pod("a")
    follower = follow()
    follower.wait(lambda f: f.view is not None)
    before = len(follower.seen)
    client.faults(refuseSeconds=1.5, cutWatches=True)
    follower.wait(lambda f: f.count(Fresh) == 1)
    kinds = [type(event) for event in follower.seen[before:]]
    assert kinds == [Stale, Fresh]
    client.label("a", "after")
    follower.wait(lambda f: f.summary() == client.truth())


def test_a_server_that_comes_back(server, scene):
    client, follow = scene
    client.pod("a")
    follower = follow()
    follower.wait(lambda f: f.view is not None)
    server.need_embedded("ends at once").stop()
    follower.wait(lambda f: f.count(Stale) == 1)
    assert set(follower.view) == {PodRef("default", "a")}


@pytest.mark.parametrize("seed", range(3))
def test_any_course_of_writes_and_faults_ends_with_the_truth(scene, seed):
    client, follow = scene
    chance = random.Random(seed)
    follower = follow()
    alive = set()
    for step in range(80):
        name = f"p{chance.randrange(12)}"
        match chance.choice(["write", "write", "write", "delete", "cut", "compact"]):
            case "write" if name in alive:
                client.label(name, str(step))
            case "write":
                client.pod(name, labels={"v": str(step)})
                alive.add(name)
            case "delete" if name in alive:
                client.delete(name)
                alive.remove(name)
            case "cut":
                client.faults(cutWatches=True)
            case "compact":
                client.faults(compact=True, cutWatches=chance.random() < 0.5)
    truth = client.truth()
    assert len(truth) == len(alive)
    follower.wait(lambda f: f.summary() == truth)


def test_one_node_by_name(server):
    client = Client(server)
    client.node("other", podCIDR="10.9.0.0/24")
    seen = queue.Queue()
    connection = connect(server.kubeconfig)
    watch = watch_node(connection, "n1", seen.put, TIMING)
    watch.start()
    try:
        assert seen.get(timeout=PATIENCE) is None
        client.node("n1", podCIDR="10.1.0.0/24", podCIDRs=["10.1.0.0/24"])
        assert str(seen.get(timeout=PATIENCE).range4) == "10.1.0.0/24"
        client.faults(cutWatches=True, compact=True)
        client.send("DELETE", f"{NODE.path}/n1")
        latest = seen.get(timeout=PATIENCE)
        while latest is not None:
            latest = seen.get(timeout=PATIENCE)
    finally:
        watch.stop()
        connection.close()
