"""What was dropped, told of those pods and policies that are there when somebody asks."""

from __future__ import annotations

import threading
from collections import Counter

import msgspec
import pytest
from hypothesis import given
from policy_carriage import network_of, ports_of
from policy_objects import namespace, node, pod, policy
from policy_strategies import clusters
from prometheus_client import CollectorRegistry
from service_objects import endpoint_slice, service

from ovsnet.controller import drops as module
from ovsnet.controller.brain import Brain
from ovsnet.controller.drops import Drops, PodDrops
from ovsnet.controller.loop import Loop
from ovsnet.controller.metrics import Metrics
from ovsnet.controller.notices import Counted, NotCounted
from ovsnet.controller.observer import Observer
from ovsnet.controller.policy.isolation import isolation_owner
from ovsnet.controller.results import Departed
from ovsnet.controller.states import Timing
from ovsnet.controller.status import PodDropped
from ovsnet.controller.switchboard import Switchboard
from ovsnet.model import Direction, PodRef, PolicyRef, ServiceRef
from ovsnet.policy.world import World

NAME = "ovsnet_policy_drops_total"
INGRESS, EGRESS = Direction.INGRESS, Direction.EGRESS
WEB = pod("shop/web", "app=web", host=5)
DB = pod("shop/db", "app=db", node=2, host=6)
FREE = pod("lab/free", host=7)
DENY = policy("shop/deny", ingress=())
SHUT = policy("shop/shut", "app=web", ingress=(), egress=())
WORLD = World.of(
    [namespace("shop"), namespace("lab")], [WEB, DB, FREE], [node(1), node(2)], [DENY, SHUT]
)


def cookie(of, direction):
    return isolation_owner(of.ref, direction).cookie


class Stage:
    """A network, what its switches have told, and the metrics."""

    def __init__(self, world=WORLD):
        self.pods = dict(world.pods)
        self.world = world
        self.network = network_of(world)
        self.drops = Drops(self.network)
        self.metrics = Metrics.on(CollectorRegistry(), "1.2")
        self.metrics.follow(lambda: 0, [], self.drops.isolated)

    def counted(self, node_name="node-1", **packets):
        """A reading: packets by `POD_DIRECTION`."""
        found = {}
        for name, count in packets.items():
            short, direction = name.rsplit("_", 1)
            found[isolation_owner(PodRef("shop", short), Direction[direction.upper()]).cookie] = (
                count
            )
        self.drops.take(node_name, found)

    def put(self, *pods, gone=()):
        """Pods come with their ports, or go with them."""
        for each in gone:
            self.pods.pop(each.ref)
            self.network.drop_pod(each.ref)
        for each in pods:
            self.pods[each.ref] = each
            self.network.put_pod(each)
        world = World.of([], self.pods.values(), self.world.nodes.values())
        for name in self.network.nodes:
            self.network.set_ports(name, ports_of(world, name))

    def samples(self, name=NAME):
        """Values by pod, policy and direction."""
        return {
            (f"{labels['namespace']}/{labels['pod']}", labels["policy"], labels["direction"]): value
            for family in self.metrics.registry.collect()
            for sample, labels, value, *_ in family.samples
            if sample == name
        }


@pytest.fixture
def stage():
    return Stage()


def test_a_drop_counts_for_every_policy_that_isolates_the_pod_so(stage):
    stage.counted(web_ingress=5, web_egress=7)
    stage.counted("node-2", db_ingress=3)
    assert stage.samples() == {
        ("shop/web", "shop/deny", "ingress"): 5,
        ("shop/web", "shop/shut", "ingress"): 5,
        ("shop/web", "shop/shut", "egress"): 7,
        ("shop/db", "shop/deny", "ingress"): 3,
    }
    assert list(stage.drops.counted()) == [
        PodDrops(WEB.ref, "node-1", EGRESS, ("shop/shut",), 7),
        PodDrops(WEB.ref, "node-1", INGRESS, ("shop/deny", "shop/shut"), 5),
        PodDrops(DB.ref, "node-2", INGRESS, ("shop/deny",), 3),
    ]


def test_isolated_pods_are_told_of_from_the_beginning_once_their_switch_has_been_read(stage):
    assert stage.samples() == {}
    stage.counted()
    assert set(stage.samples().values()) == {0}
    assert {key[0] for key in stage.samples()} == {"shop/web"}
    stage.counted("node-2")
    assert len(stage.samples()) == 4
    assert list(stage.drops.counted()) == []


def test_every_reading_takes_the_place_of_the_one_before(stage):
    stage.counted(web_ingress=5, web_egress=7)
    # The switch has begun anew: its counters are what it says they are.
    stage.counted(web_ingress=2)
    assert stage.samples()["shop/web", "shop/deny", "ingress"] == 2
    assert stage.samples()["shop/web", "shop/shut", "egress"] == 0


def test_when_a_policy_goes_its_samples_do(stage):
    stage.counted(web_ingress=5, web_egress=7)
    stage.network.drop_policy(SHUT.ref)
    assert stage.samples() == {("shop/web", "shop/deny", "ingress"): 5}
    stage.network.drop_policy(DENY.ref)
    assert stage.samples() == {}
    assert list(stage.drops.counted()) == []
    stage.network.put_policy(DENY)
    stage.counted(web_ingress=1)
    assert stage.samples() == {("shop/web", "shop/deny", "ingress"): 1}


def test_a_policy_that_no_longer_means_the_pod_is_not_named(stage):
    stage.counted(web_ingress=5, web_egress=7)
    stage.put(msgspec.structs.replace(WEB, labels=()))
    assert stage.samples() == {("shop/web", "shop/deny", "ingress"): 5}


def test_a_pod_that_is_gone_is_not_named(stage):
    stage.counted(web_ingress=5, web_egress=7)
    stage.put(gone=[WEB])
    assert stage.samples() == {}


def test_a_pod_in_the_place_of_another_has_a_count_of_its_own(stage):
    stage.counted(web_ingress=5)
    renamed = pod("shop/web2", "app=web", host=5)
    stage.put(renamed, gone=[WEB])
    assert set(stage.samples().values()) == {0}
    # The old one's flow is still there when the switch is read, and then no more.
    stage.counted(web_ingress=5, web2_ingress=1)
    assert stage.samples()["shop/web2", "shop/deny", "ingress"] == 1
    assert {key[0] for key in stage.samples()} == {"shop/web2"}
    stage.counted(web2_ingress=2)
    assert stage.samples()["shop/web2", "shop/shut", "ingress"] == 2


def test_a_pod_of_the_same_name_on_another_node_does_not_inherit(stage):
    stage.counted(web_ingress=5)
    stage.put(gone=[WEB])
    stage.put(pod("shop/web", "app=web", node=2, host=9))
    stage.counted("node-2", web_ingress=2)
    assert stage.samples()["shop/web", "shop/deny", "ingress"] == 2
    # Even if the old node's switch still has the flows, and says so later.
    stage.counted("node-1", web_ingress=6)
    assert stage.samples()["shop/web", "shop/deny", "ingress"] == 2


def test_flows_of_nobody_and_nodes_of_nobody_count_for_nobody(stage):
    stage.drops.take("node-1", {12345: 9, cookie(WEB, INGRESS): 1, cookie(FREE, INGRESS): 4})
    stage.drops.take("node-7", {cookie(DB, INGRESS): 9})
    assert [each for each in stage.drops.counted() if each.packets] == [
        PodDrops(WEB.ref, "node-1", INGRESS, ("shop/deny", "shop/shut"), 1)
    ]


def test_a_pod_that_comes_between_two_readings_is_found(stage):
    stage.counted(web_ingress=1)
    stage.put(pod("shop/late", host=20))
    stage.counted(web_ingress=1, late_ingress=4)
    assert stage.samples()["shop/late", "shop/deny", "ingress"] == 4


def test_a_node_that_left_is_forgotten(stage):
    stage.counted(web_ingress=5)
    stage.drops.forget("node-1")
    stage.drops.forget("never seen")
    assert stage.samples() == {}


@pytest.mark.parametrize(("count", "many"), [(8, False), (9, True)])
def test_many_policies_on_one_pod_make_one_sample(count, many):
    policies = [policy(f"shop/p{n}", "app=web", ingress=()) for n in range(count)]
    stage = Stage(World.of([namespace("shop")], [WEB], [node(1)], policies))
    stage.counted(web_ingress=5)
    found = stage.samples()
    assert len(found) == (1 if many else count)
    assert set(found.values()) == {5}
    assert (("shop/web", "(more than 8)", "ingress") in found) is many


def test_policies_that_mean_a_pod_by_different_labels_are_counted_together():
    policies = [policy(f"shop/p{n}", f"l{n}=x", ingress=()) for n in range(9)]
    labels = "; ".join(f"l{n}=x" for n in range(9))
    stage = Stage(World.of([namespace("shop")], [pod("shop/web", labels)], [node(1)], policies))
    stage.counted(web_ingress=5)
    assert list(stage.samples()) == [("shop/web", "(more than 8)", "ingress")]


def test_many_pods_leave_room_for_those_with_the_most(monkeypatch):
    monkeypatch.setattr(module, "MOST_PODS", 3)
    pods = [pod(f"shop/web{n}", host=10 + n) for n in range(6)]
    stage = Stage(World.of([namespace("shop")], pods, [node(1)], [DENY]))
    stage.counted(web0_ingress=1, web1_ingress=4)
    assert sorted(stage.samples().values()) == [0, 1, 4]
    stage.counted(**{f"web{n}_ingress": 10 + n for n in range(6)})
    assert sorted(stage.samples().values()) == [13, 14, 15]


@given(clusters())
def test_isolated_pods_are_counted_and_few_policies_are_all_of_them(world):
    network = network_of(world)
    for ref in [*world.policies][::2]:
        network.drop_policy(ref)
    for ref in [*world.pods][::3]:
        network.drop_pod(ref)
    enforcement = network.enforcement
    counts = Counter(direction for _, direction in enforcement.isolation.pods)
    assert dict(enforcement.isolation.counts) == {d: counts[d] for d in Direction}
    for ref in world.pods:
        for direction in Direction:
            every = enforcement.isolation.policies(ref, direction)
            for most in range(4):
                few = enforcement.isolation.policies_if_few(ref, direction, most)
                assert few == (every if len(every) <= most else None)


class _Server:
    """Stands in for the HTTP server: keeps what it would serve."""

    def __init__(self, address, sources):
        self.sources = sources
        _Server.made = self

    def __enter__(self):
        return self

    def __exit__(self, *args):
        pass


@pytest.fixture
def observed(monkeypatch):
    """An observer of a brain that knows the world, the loop in a thread, and what is served."""
    monkeypatch.setattr("ovsnet.controller.observer.HttpServer", _Server)
    monkeypatch.setattr("ovsnet.controller.inquiry.desk.PATIENCE", 0.5)
    brain = Brain(network_of(WORLD), Switchboard(1, Timing()))
    observer = Observer(brain, lambda: None, lambda: 0.0, lambda: 0.0)
    loop = Loop(brain, lambda: 0.0, observer)
    thread = threading.Thread(target=loop.run, args=(None,), daemon=True)
    thread.start()
    with observer.serve(("", 0), loop, lambda nodes, seconds: {}, lambda: 0):
        yield observer, loop, _Server.made.sources
    loop.stop()
    thread.join(20)
    assert not thread.is_alive()


def value(sources, name=NAME, **labels):
    return sources.registry.get_sample_value(name, labels)


WEB_LABELS = {
    "namespace": "shop",
    "pod": "web",
    "policy": "shop/shut",
    "direction": "egress",
}


def test_a_reading_is_shown_in_the_metrics_and_in_the_status(observed):
    observer, _, sources = observed
    assert value(sources, **WEB_LABELS) is None
    observer(Counted("node-1", {cookie(WEB, EGRESS): 7}))
    observer(NotCounted("node-2", "it refused"))
    assert value(sources, **WEB_LABELS) == 7
    (told,) = sources.status().drops
    assert told == PodDropped("shop/web", "node-1", "egress", ("shop/shut",), 7)
    observer(Departed("node-1"))
    assert value(sources, **WEB_LABELS) is None
    assert sources.status().drops == ()


def test_policies_and_isolated_pods_are_counted(observed):
    observer, _, sources = observed
    observer.refresh()
    assert value(sources, "ovsnet_policies") == 2
    assert value(sources, "ovsnet_policy_pods_isolated", direction="ingress") == 2
    assert value(sources, "ovsnet_policy_pods_isolated", direction="egress") == 1
    observer._brain.network.drop_policy(PolicyRef("shop", "shut"))
    observer.refresh()
    assert value(sources, "ovsnet_policies") == 1
    assert value(sources, "ovsnet_policy_pods_isolated", direction="egress") == 0


def test_services_slices_and_ports_with_endpoints_are_counted(observed):
    observer, _, sources = observed
    network = observer._brain.network
    network.put_service(service("shop/web", "http=80", "https=443", cluster="10.96.0.1 fd00:96::1"))
    network.put_service(service("shop/none", "http=80", cluster="10.96.0.2"))
    network.put_slice(endpoint_slice("shop/web", ["http=8080", "https=8443"], "10.244.1.5"))
    six = endpoint_slice("shop/web", ["http=8080"], "fd00:10:244:1::5", name="b")
    network.put_slice(six)

    def counts():
        observer.refresh()
        names = ("services", "endpoint_slices", "endpoint_sets")
        return [value(sources, f"ovsnet_{name}") for name in names]

    assert counts() == [2, 2, 3]
    network.drop_slice(six.ref)
    assert counts() == [2, 1, 2]
    network.drop_service(ServiceRef("shop", "web"))
    assert counts() == [1, 1, 0]


def test_a_controller_that_is_too_busy_shows_what_it_showed_last(observed):
    observer, loop, sources = observed
    observer(Counted("node-1", {cookie(WEB, EGRESS): 7}))
    assert value(sources, **WEB_LABELS) == 7
    begun, free = threading.Event(), threading.Event()
    loop.call(lambda: (begun.set(), free.wait(20)))
    assert begun.wait(20)
    try:
        observer(Counted("node-1", {cookie(WEB, EGRESS): 9}))
        assert value(sources, **WEB_LABELS) == 7
        assert value(sources, "ovsnet_flow_writes_total") == 0
    finally:
        free.set()
    assert value(sources, **WEB_LABELS) == 9
