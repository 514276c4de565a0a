"""The reflector: what is news, what is older than what was told, and what is passed over."""

from __future__ import annotations

import json
import random

import pytest
from fake_api import FakeAPI, bookmark, error, line, pod_object
from reflector_line import TIMING, Line, following, kinds

from ovsnet.api.events import Deleted, Malformed, Rewound, Synced
from ovsnet.api.pod import POD
from ovsnet.api.reflector import Reflector
from ovsnet.model import PodRef


def test_changes_that_the_network_does_not_see_are_no_events():
    way = following("a")
    for _ in range(5):
        way.api.write("a", quiet=True)
    way.settle()
    assert way.consumer.events == []


def test_a_name_that_lives_again_is_told_as_two_pods():
    way = following("a")
    old = way.consumer.view[PodRef("shop", "a")].uid
    way.api.delete("a")
    way.api.write("a")
    new = way.api.log[-1]
    # The deletion itself never comes.
    way.stream(line("MODIFIED", new[2]))
    deleted, changed = way.consumer.events
    assert deleted == Deleted(POD, PodRef("shop", "a"), old)
    assert changed.object.uid != old


@pytest.mark.parametrize("marked", [False, True])
def test_a_deletion_is_true_whatever_version_it_bears(marked):
    """Old API servers send the version of the last write with it."""
    way = following("a")
    last = way.api.live["a"]
    way.api.delete("a")
    if marked:
        way.stream(bookmark(99))
    way.stream(line("DELETED", last))
    assert kinds(way) == ["Deleted"]
    way.stream(line("MODIFIED", last))
    assert kinds(way) == ["Deleted"]


def test_what_was_deleted_before_the_list_does_not_come_back():
    way = Line()
    way.api.write("a")
    way.api.delete("a")
    way.settle()
    way.do_repeat(0)
    assert kinds(way) == ["Synced"]


def test_nothing_older_than_a_bookmark_is_news_even_after_older_bookmarks():
    way = following("a")
    way.stream(bookmark(50) + bookmark(10))
    way.stream(line("ADDED", pod_object("b", "u", 40, 1)))
    assert way.consumer.events == []
    way.tell(way.reflector.failed("reset", way.now))
    way.open()
    assert dict(way.get.query)["resourceVersion"] == "50"


def test_a_repeated_bookmark_does_not_make_it_forget_deletions():
    way = following()
    way.api.write("a")
    way.settle()
    way.api.delete("a")
    way.settle()
    way.stream(bookmark(1))
    way.do_repeat(0)
    assert kinds(way) == ["Changed", "Deleted"]


def test_a_bookmark_that_comes_late_does_not_make_it_forget_later_deletions():
    way = following()
    for _ in range(5):
        way.api.write("a")
    way.settle()
    way.api.delete("a")
    way.settle()
    way.stream(bookmark(way.api.version - 2))
    way.do_repeat(4)
    assert kinds(way)[-1] == "Deleted"


def test_a_repeated_event_does_not_move_the_place_to_resume_from():
    way = following("a", "b")
    way.api.write("a")
    way.settle()
    way.do_repeat(0)
    way.tell(way.reflector.failed("reset", way.now))
    way.open()
    assert dict(way.get.query)["resourceVersion"] == str(way.api.version)


def test_pages_of_different_versions_are_followed_from_the_lowest():
    """No server should send them; one that does must not make us miss a deletion."""
    way = Line()
    for name in ("a", "b", "c"):
        way.api.write(name)
    way.do_deliver(1)
    way.api.delete("a")
    way.open()
    rest = {"metadata": {"resourceVersion": "5"}, "items": [way.api.live["c"]]}
    way.answer(200, json.dumps(rest).encode())
    way.settle()
    assert kinds(way) == ["Synced", "Deleted"]


@pytest.mark.parametrize("broken", [b"{]\n", error(503), error(410)])
def test_what_follows_a_broken_line_is_not_read(broken):
    way = following("a")
    way.stream(broken)
    way.api.delete("a")
    way.stream(line(*way.api.log[-1][1:]))
    assert "Deleted" not in kinds(way)


def test_a_late_deletion_of_a_former_life_is_no_news():
    way = following("a")
    way.api.delete("a")
    way.api.write("a")
    deletion, creation = way.api.log[-2:]
    way.stream(line("ADDED", creation[2]))
    way.consumer.events.clear()
    way.stream(line("DELETED", deletion[2]))
    assert way.consumer.events == []


def test_an_object_that_cannot_be_read_is_absent_and_is_reported_once():
    way = following("a", "b")
    way.api.write("a", broken=True)
    way.api.write("a", broken=True, quiet=True)
    way.settle()
    assert kinds(way) == ["Malformed", "Deleted"]
    assert way.consumer.events[0] == Malformed(
        POD, "shop/a", "spec.nodeName", "Expected `str`, got `int`"
    )
    way.consumer.events.clear()
    way.stream(error(410))
    way.settle()
    assert kinds(way) == ["Synced"]
    way.api.write("a")
    way.settle()
    assert kinds(way) == ["Synced", "Changed"]


def test_objects_without_name_or_version_spoil_no_others():
    way = following("a")
    for meta in ({}, {"name": "x", "namespace": "shop", "uid": "u"}, {"name": 5}):
        way.stream(line("ADDED", {"metadata": meta}))
    way.api.write("b")
    way.settle()
    assert kinds(way) == ["Malformed"] * 3 + ["Changed"]
    assert [e.object for e in way.consumer.events[:3]] == ["(no name)", "shop/x", "(no name)"]


def test_the_same_in_a_list():
    way = Line()
    way.api.write("a")
    things = [{"metadata": {}}, way.api.live["a"], {"metadata": {"name": "x"}}, None, 5]
    body = {"metadata": {"resourceVersion": "9"}, "items": things}
    way.ask()
    way.answer(200, json.dumps(body).encode())
    assert kinds(way) == ["Malformed"] * 4 + ["Synced"]
    assert set(way.consumer.view) == {PodRef("shop", "a")}


def test_a_list_that_is_older_than_what_was_seen_is_not_trusted():
    way = following("a")
    way.api.delete("a")
    way.settle()
    way.consumer.events.clear()
    way.stream(error(410))
    way.ask()
    way.answer(*way.api.page(dict(way.get.query), at=2))
    assert kinds(way) == ["Stale"]
    assert way.consumer.view == {}
    way.settle()
    assert kinds(way) == ["Stale", "Fresh", "Synced"]
    assert way.consumer.view == {}


def test_a_history_that_starts_over_is_accepted_in_the_end():
    """A backup was restored: no list will ever be as new as what we saw."""
    way = following("a", "b")
    restored = FakeAPI()
    restored.write("a")
    seen = way.api.version
    began = way.now
    way.stream(error(410))
    while way.consumer.events[-1:] == [] or kinds(way)[-1] == "Stale":
        way.ask()
        way.consumer.api = restored
        way.consumer.progress.clear()
        way.consumer.view = None
        way.answer(*restored.page(dict(way.get.query)))
    assert way.now - began >= TIMING.rewind
    assert kinds(way) == ["Stale", "Rewound", "Fresh", "Synced"]
    assert way.consumer.events[1] == Rewound(POD, seen, restored.version)
    way.api = restored
    restored.write("c")
    way.settle()
    assert way.consumer.view == restored.at(restored.version)


def test_what_the_consumer_did_not_take_is_told_again_by_a_list():
    way = following("a")
    way.tell(way.reflector.distrusted("fault", way.now))
    way.settle()
    assert kinds(way) == ["Stale", "Fresh", "Synced"]


def test_a_field_selector_is_part_of_every_request():
    reflector = Reflector(POD, TIMING, random.Random(0).random, 0.0, "metadata.name=a")
    assert ("fieldSelector", "metadata.name=a") in reflector.next().query
    reflector.answered(200, 0.0)
    reflector.data(b'{"metadata":{"resourceVersion":"5"},"items":null}', 0.0)
    assert reflector.ended(0.0) == (Synced(POD, {}),)
    assert ("fieldSelector", "metadata.name=a") in reflector.next().query
