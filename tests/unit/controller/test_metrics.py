"""The metrics: names that last, in a registry of one's own."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from ovsnet.controller.metrics import Metrics


@pytest.fixture
def metrics():
    return Metrics.on(CollectorRegistry(), "1.2")


def value(metrics, name, **labels):
    return metrics.registry.get_sample_value(name, labels)


def test_two_controllers_in_one_process_do_not_meet(metrics):
    other = Metrics.on(CollectorRegistry(), "1.2")
    metrics.flow_writes.inc()
    assert value(metrics, "ovsnet_flow_writes_total") == 1
    assert value(other, "ovsnet_flow_writes_total") == 0
    with pytest.raises(ValueError, match="Duplicated"):
        Metrics.on(metrics.registry, "1.2")


def test_what_is_read_when_it_is_asked_for(metrics):
    depth, stale = [3], [0.0]
    metrics.follow(lambda: depth[0], [("Pod", lambda: stale[0])])
    assert value(metrics, "ovsnet_events_queued") == 3
    depth[0], stale[0] = 5, 12.5
    assert value(metrics, "ovsnet_events_queued") == 5
    assert value(metrics, "ovsnet_api_stale_seconds", kind="Pod") == 12.5


def test_a_node_that_left_is_forgotten(metrics):
    for node in ("a", "b"):
        metrics.node_flows.labels(node).set(7)
        metrics.node_ports_refused.labels(node).set(1)
    metrics.forget_node("a")
    metrics.forget_node("a")
    metrics.forget_node("never seen")
    text = generate_latest(metrics.registry).decode()
    assert 'node="a"' not in text
    assert text.count('node="b"') == 2


def test_every_metric_is_explained(metrics):
    for family in metrics.registry.collect():
        assert family.documentation
        assert family.name.startswith(("ovsnet_", "process_", "python_gc_"))


def test_the_version_is_told(metrics):
    assert value(metrics, "ovsnet_controller_info", version="1.2") == 1


def test_durations_have_buckets_below_and_above_what_is_usual(metrics):
    metrics.port_seconds.observe(0.0015)
    metrics.port_seconds.observe(60)
    assert value(metrics, "ovsnet_port_seconds_bucket", le="0.001") == 0
    assert value(metrics, "ovsnet_port_seconds_bucket", le="0.002") == 1
    assert value(metrics, "ovsnet_port_seconds_bucket", le="30.0") == 1
    assert value(metrics, "ovsnet_port_seconds_count") == 2
