"""Lists and watches as clients rely on them. Runs on the embedded and on a real server."""

from __future__ import annotations

import random
import threading

import pytest


def config(name, **labels):
    return {"metadata": {"name": name, "labels": labels}, "data": {"k": "0"}}


@pytest.fixture
def path(namespace):
    return f"/api/v1/namespaces/{namespace}/configmaps"


def version(listed):
    return listed["metadata"]["resourceVersion"]


def test_a_watch_from_a_list_sees_everything_after_it_once_and_in_order(target, path):
    target.ok("POST", path, config("before"))
    start = version(target.ok("GET", path))
    chance = random.Random(1)
    watches = [target.watch(path, resourceVersion=start)]
    expected = []
    alive: set[str] = set()
    for number in range(60):
        name = f"c{chance.randrange(6)}"
        if name not in alive:
            made = target.ok("POST", path, config(name))
            expected.append(("ADDED", name, version(made)))
            alive.add(name)
        elif chance.random() < 0.5:
            body = {"data": {"k": str(number)}}
            media = "application/merge-patch+json"
            made = target.ok("PATCH", f"{path}/{name}", body, media=media)
            expected.append(("MODIFIED", name, version(made)))
        else:
            target.ok("DELETE", f"{path}/{name}")
            expected.append(("DELETED", name, None))
            alive.remove(name)
        if number % 20 == 10:
            # One that comes late, from the same old list.
            watches.append(target.watch(path, resourceVersion=start))
    target.ok("POST", path, config("end"))
    for watch in watches:
        events = watch.until("end")[:-1]
        seen = [(e["type"], e["object"]["metadata"]["name"]) for e in events]
        assert seen == [entry[:2] for entry in expected]
        versions = [int(version(e["object"])) for e in events]
        assert versions == sorted(set(versions))
        for event, (_, _, known) in zip(events, expected, strict=True):
            assert known is None or version(event["object"]) == known
        watch.close()


def test_writers_at_once_make_one_order_that_every_watcher_sees(target, path):
    start = version(target.ok("GET", path))
    watches = [target.watch(path, resourceVersion=start) for _ in range(3)]

    def write(writer: int) -> None:
        for number in range(15):
            target.ok("POST", path, config(f"w{writer}-{number}"))

    threads = [threading.Thread(target=write, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    target.ok("POST", path, config("end"))
    seen = [[version(e["object"]) for e in watch.until("end")] for watch in watches]
    assert len(set(seen[0])) == len(seen[0]) == 46
    assert seen[0] == seen[1] == seen[2]
    for watch in watches:
        watch.close()


def test_a_watch_without_a_version_starts_with_what_is_there(target, path):
    for name in ("a", "b"):
        target.ok("POST", path, config(name))
    for query in ({}, {"resourceVersion": "0"}):
        watch = target.watch(path, labelSelector="!nothing", **query)
        first = []
        while {"a", "b"} - set(first):
            event = watch.next()
            assert event["type"] == "ADDED"
            first.append(event["object"]["metadata"]["name"])
        watch.close()


def test_an_object_that_leaves_the_selection_is_deleted_for_its_watcher(target, path):
    start = version(target.ok("GET", path))
    watch = target.watch(path, resourceVersion=start, labelSelector="colour=red")
    target.ok("POST", path, config("x", colour="red"))
    media = "application/merge-patch+json"
    for colour in ("blue", "red"):
        patch = {"metadata": {"labels": {"colour": colour}}}
        target.ok("PATCH", f"{path}/x", patch, media=media)
    events = [watch.next() for _ in range(3)]
    assert [e["type"] for e in events] == ["ADDED", "DELETED", "ADDED"]
    # It is told with the content that it last had inside, and the version at which it left.
    assert events[1]["object"]["metadata"]["labels"] == {"colour": "red"}
    versions = [int(version(e["object"])) for e in events]
    assert versions == sorted(set(versions))
    watch.close()


def test_pods_are_selected_by_node_and_phase(target, namespace):
    pods = f"/api/v1/namespaces/{namespace}/pods"
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    start = version(target.ok("GET", pods))
    watch = target.watch(pods, resourceVersion=start, fieldSelector="spec.nodeName=nowhere-1")
    # Nobody schedules a pod that is for another scheduler.
    pod["spec"]["schedulerName"] = "nobody"
    target.ok("POST", pods, pod)
    binding = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": "p"},
        "target": {"kind": "Node", "name": "nowhere-1"},
    }
    target.ok("POST", f"{pods}/p/binding", binding)
    event = watch.next()
    assert (event["type"], event["object"]["spec"]["nodeName"]) == ("ADDED", "nowhere-1")
    found = target.ok("GET", pods, fieldSelector="spec.nodeName=nowhere-1,status.phase=Pending")
    assert [item["metadata"]["name"] for item in found["items"]] == ["p"]
    assert not target.ok("GET", pods, fieldSelector="status.phase!=Pending")["items"]
    again = target.request("POST", f"{pods}/p/binding", binding)
    assert (again.status, again.body["reason"]) == (409, "Conflict")
    everywhere = target.ok("GET", "/api/v1/pods", fieldSelector=f"metadata.namespace={namespace}")
    assert len(everywhere["items"]) == 1
    target.ok("DELETE", f"{pods}/p", {"gracePeriodSeconds": 0})
    assert watch.next()["type"] in ("MODIFIED", "DELETED")
    watch.close()


def test_a_field_that_cannot_be_selected_is_refused(target, path):
    answer = target.request("GET", path, fieldSelector="data.k=0")
    assert (answer.status, answer.body["reason"]) == (400, "BadRequest")


def test_a_watch_ends_when_its_time_is_over_and_its_bookmark_leads_on(target, path):
    start = version(target.ok("GET", path))
    target.ok("POST", path, config("x"))
    query = {"allowWatchBookmarks": "true", "timeoutSeconds": "4"}
    events = target.watch(path, resourceVersion=start, **query).rest()
    assert [e["type"] for e in events if e["type"] != "BOOKMARK"] == ["ADDED"]
    bookmarks = [e["object"] for e in events if e["type"] == "BOOKMARK"]
    assert all(b["kind"] == "ConfigMap" for b in bookmarks)
    # Nobody may rely on a bookmark coming (API concepts); the embedded server always sends one.
    assert bookmarks or target.embedded is None
    last = bookmarks[-1] if bookmarks else events[-1]["object"]
    target.ok("POST", path, config("y"))
    watch = target.watch(path, resourceVersion=version(last))
    assert [e["object"]["metadata"]["name"] for e in watch.until("y")] == ["y"]
    watch.close()


def test_a_streamed_list_ends_with_a_bookmark_or_is_refused_as_such(target, path):
    target.ok("POST", path, config("x"))
    query = {
        "sendInitialEvents": "true",
        "resourceVersionMatch": "NotOlderThan",
        "allowWatchBookmarks": "true",
        "timeoutSeconds": "3",
    }
    response = target.open("GET", path, watch="1", **query)
    if response.status != 200:
        # What client-go falls back to a list for.
        assert response.status == 422
        return
    response.close()
    watch = target.watch(path, **query)
    names = []
    while (event := watch.next())["type"] == "ADDED":
        names.append(event["object"]["metadata"]["name"])
    if event["type"] == "ERROR":
        # A real server cannot on an etcd that is older than 3.5.
        assert event["object"]["code"] == 500
        return
    assert "x" in names
    annotations = event["object"]["metadata"]["annotations"]
    assert annotations["k8s.io/initial-events-end"] == "true"
    watch.close()


def test_pages_are_of_one_state(target, path):
    for number in range(7):
        target.ok("POST", path, config(f"p{number}", page="yes"))
    page = target.ok("GET", path, limit="3", labelSelector="page=yes")
    first = version(page)
    names = [i["metadata"]["name"] for i in page["items"]]
    target.ok("DELETE", f"{path}/p5")
    target.ok("POST", path, config("p9", page="yes"))
    while token := page["metadata"].get("continue"):
        page = target.ok("GET", path, limit="3", labelSelector="page=yes", **{"continue": token})
        assert version(page) == first
        names += [i["metadata"]["name"] for i in page["items"]]
    assert names == [f"p{number}" for number in range(7)]


def test_how_many_are_left_is_told_where_nothing_selects(target, path):
    for number in range(5):
        target.ok("POST", path, config(f"p{number}"))
    total = len(target.ok("GET", path)["items"])
    page = target.ok("GET", path, limit="2")
    assert page["metadata"]["remainingItemCount"] == total - 2


def test_a_list_of_an_exact_version_shows_that_state(target, path):
    target.ok("POST", path, config("x"))
    then = version(target.ok("GET", path))
    target.ok("DELETE", f"{path}/x")
    query = {"resourceVersion": then, "resourceVersionMatch": "Exact"}
    old = target.ok("GET", path, **query)
    assert version(old) == then
    assert "x" in [i["metadata"]["name"] for i in old["items"]]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"resourceVersionMatch": "Exact"}, 422),
        ({"resourceVersionMatch": "Exact", "resourceVersion": "0"}, 422),
        ({"resourceVersion": "seven"}, 400),
        ({"continue": "nonsense"}, 400),
        ({"labelSelector": "a b"}, 400),
    ],
)
def test_a_list_that_contradicts_itself_is_refused(target, path, query, status):
    answer = target.request("GET", path, **query)
    assert answer.status == status or (
        query.get("resourceVersion") == "seven" and answer.status == 422
    )
    assert answer.body["kind"] == "Status"
