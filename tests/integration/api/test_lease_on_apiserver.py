"""A Lease, and where the pods behind a service listen, in API servers that are not ours to fake."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest
from api_servers import SERVERS, api_server
from places import wait_for

from ovsnet.api import Lease, LeaseStore, Listening, watch_listening
from ovsnet.api.lease import ConflictError, LeaseError

PATIENCE = 20
LEASES = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
THEN = datetime(2025, 1, 31, 12, 0, 0, 123456, tzinfo=UTC)
TAKEN = Lease("a_192.0.2.1_7", 3, 41, THEN, THEN)


@pytest.fixture(scope="module", params=SERVERS)
def server(request):
    with api_server(request.param) as made:
        yield made


@pytest.fixture
def store(server, connection, request):
    name = f"lease-{abs(hash(request.node.name)) % 10**9}"
    return LeaseStore(connection, "default", name, PATIENCE)


def plain(lease):
    return msgspec.structs.replace(lease, metadata={})


def test_it_is_created_once_and_read_back(store):
    assert store.read() is None
    made = store.write(TAKEN)
    assert plain(made) == TAKEN
    assert made.version
    assert store.read() == made
    with pytest.raises(ConflictError):
        store.write(TAKEN)


def test_it_is_replaced_only_by_who_knows_its_present_version(server, store):
    first = store.write(TAKEN)
    name = store.name.partition("/")[2]
    labelled = server.send("GET", f"{LEASES}/{name}")
    labelled["metadata"]["labels"] = {"kept": "yes"}
    server.send("PUT", f"{LEASES}/{name}", labelled)
    with pytest.raises(ConflictError):
        store.write(msgspec.structs.replace(first, holder="b"))
    present = store.read()
    later = store.write(msgspec.structs.replace(present, holder="b", transitions=42))
    assert (later.holder, later.transitions) == ("b", 42)
    assert later.version not in {first.version, present.version}
    assert server.send("GET", f"{LEASES}/{name}")["metadata"]["labels"] == {"kept": "yes"}
    assert store.write(msgspec.structs.replace(later, holder="")).holder == ""


def test_one_that_was_deleted_cannot_be_replaced(server, store):
    made = store.write(TAKEN)
    server.send("DELETE", f"{LEASES}/{store.name.partition('/')[2]}")
    with pytest.raises(ConflictError):
        store.write(made)
    assert store.read() is None
    store.write(TAKEN)


def test_one_that_somebody_made_without_saying_anything_is_nobodys(server, store):
    server.send("POST", LEASES, {"metadata": {"name": store.name.partition("/")[2]}, "spec": {}})
    found = store.read()
    assert plain(found) == Lease("", 0, 0)
    assert store.write(msgspec.structs.replace(TAKEN, metadata=found.metadata)).transitions == 41


def test_where_there_is_no_answer_nothing_is_known(connection):
    with pytest.raises(LeaseError, match=r"404|not found"):
        LeaseStore(connection, "nowhere", "x", PATIENCE).write(TAKEN)


def slice_of(name, service, *addresses, pods=()):
    endpoints = [{"addresses": [a], "conditions": {"ready": False}} for a in addresses]
    for endpoint, pod in zip(endpoints, pods, strict=False):
        endpoint["targetRef"] = {"kind": "Pod", "name": pod, "namespace": "default"}
    labels = {
        "kubernetes.io/service-name": service,
        "service.kubernetes.io/headless": "",
        "endpointslice.kubernetes.io/managed-by": "tests",
    }
    return {
        "metadata": {"name": name, "labels": labels},
        "addressType": "IPv6" if ":" in addresses[0] else "IPv4",
        "endpoints": endpoints,
        "ports": [{"name": "openflow", "port": 6653}, {"name": "agents", "port": 9096}],
    }


def test_all_behind_a_service_are_followed_and_nobody_else(server, connection):
    told = []
    server.send("POST", SLICES, slice_of("one", "ours", "192.0.2.2", "192.0.2.1", pods=("b", "a")))
    server.send("POST", SLICES, slice_of("other", "theirs", "192.0.2.9"))
    watch = watch_listening(connection, "default", "ours", told.append)
    watch.start()
    try:

        def last(*wanted):
            wait_for(
                lambda: (
                    told and [(str(each.address), each.pod) for each in told[-1]] == list(wanted)
                ),
                lambda: f"{wanted}, but was told {told}",
            )

        last(("192.0.2.1", "a"), ("192.0.2.2", "b"))
        assert isinstance(told[-1][0], Listening)
        assert told[-1][0].ports == {"openflow": 6653, "agents": 9096}
        # A pod counts once, whichever families it has; one that is known by IPv6 alone counts, too.
        body = slice_of("six", "ours", "2001:db8::1", "2001:db8::3", pods=("a", "c"))
        server.send("POST", SLICES, body)
        last(("192.0.2.1", "a"), ("192.0.2.2", "b"), ("2001:db8::3", "c"))
        server.send("DELETE", f"{SLICES}/one")
        last(("2001:db8::1", "a"), ("2001:db8::3", "c"))
        server.send("DELETE", f"{SLICES}/six")
        last()
    finally:
        watch.stop()
