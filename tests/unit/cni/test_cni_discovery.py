"""Which controllers an agent knows, and with whom it deals."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from ovsnet.api import Listening
from ovsnet.cni.config import Config
from ovsnet.cni.correspondence import Correspondence
from ovsnet.cni.discovery import (
    Controllers,
    FixedControllers,
    WatchedControllers,
    controllers_of,
)
from ovsnet.cni.stampwatch import Stamp

BOTH = {"openflow": 6653, "agents": 9096}
ONE = Controllers(("ssl:192.0.2.1:6653",), ("https://192.0.2.1:9096",))
TWO = Controllers(
    ("ssl:192.0.2.1:6653", "ssl:192.0.2.2:6653"),
    ("https://192.0.2.1:9096", "https://192.0.2.2:9096"),
)


class Watch:
    """Tells what the test says."""

    def __init__(self):
        self.tell = None
        self.running = False

    def __call__(self, tell):
        self.tell = tell
        return self

    def start(self):
        self.running = True

    def stop(self):
        self.running = False


@pytest.fixture
def memory(tmp_path):
    return tmp_path / "state" / "controllers"


def test_targets_and_urls_with_tls_and_without():
    listening = [
        Listening(ip_address("192.0.2.1"), BOTH),
        Listening(ip_address("2001:db8::1"), BOTH),
        Listening(ip_address("192.0.2.3"), {"agents": 1}),
        Listening(ip_address("192.0.2.4"), {}),
    ]
    assert controllers_of(listening, plain=False) == Controllers(
        ("ssl:192.0.2.1:6653", "ssl:[2001:db8::1]:6653"),
        ("https://192.0.2.1:9096", "https://[2001:db8::1]:9096", "https://192.0.2.3:1"),
    )
    plain = controllers_of(listening[:1], plain=True)
    assert plain == Controllers(("tcp:192.0.2.1:6653",), ("http://192.0.2.1:9096",))


def test_configured_ones_never_change():
    source = FixedControllers(ONE)
    source.start(lambda: pytest.fail("they have changed"))
    source.stop()
    assert source.controllers() == ONE


def test_what_is_heard_is_told_once_and_remembered(memory):
    watch, changes = Watch(), []
    source = WatchedControllers(memory, watch)
    assert source.controllers() == Controllers()
    source.start(lambda: changes.append(source.controllers()))
    assert watch.running
    for heard in (ONE, ONE, TWO, TWO, ONE):
        watch.tell(heard)
    assert changes == [ONE, TWO, ONE]
    source.stop()
    assert not watch.running
    assert WatchedControllers(memory, Watch()).controllers() == ONE


def test_the_last_ones_are_kept_when_there_are_none(memory):
    watch, changes = Watch(), []
    source = WatchedControllers(memory, watch)
    source.start(lambda: changes.append(1))
    watch.tell(TWO)
    watch.tell(Controllers())
    assert source.controllers() == TWO
    assert len(changes) == 1


@pytest.mark.parametrize("left", [b"", b"{", b'{"targets": 7}', b"\xff"])
def test_a_memory_that_cannot_be_read_is_none(memory, left):
    memory.parent.mkdir()
    memory.write_bytes(left)
    watch = Watch()
    source = WatchedControllers(memory, watch)
    assert source.controllers() == Controllers()
    watch.tell(ONE)
    assert WatchedControllers(memory, Watch()).controllers() == ONE


class Correspondents:
    """What has been done with all reporters, or with all respondents."""

    def __init__(self):
        self.done = []

    def __call__(self, url):
        every = self

        class One:
            def start(self):
                every.done.append(("start", url))

            def stop(self):
                every.done.append(("stop", url))

            def settled(self, stamp):
                every.done.append(("settled", url, stamp))

        return One()

    def news(self):
        found, self.done = self.done, []
        return found


def test_correspondents_come_and_go_with_their_controllers():
    tellers, respondents = Correspondents(), Correspondents()
    dealings = Correspondence(tellers, respondents)
    dealings.settled(Stamp(7, 1))
    dealings.keep(["a", "b"])
    assert tellers.news() == [
        ("settled", "a", Stamp(7, 1)),
        ("start", "a"),
        ("settled", "b", Stamp(7, 1)),
        ("start", "b"),
    ]
    assert respondents.news() == [("start", "a"), ("start", "b")]
    dealings.keep(["b", "c"])
    assert sorted(tellers.news()) == [
        ("settled", "c", Stamp(7, 1)),
        ("start", "c"),
        ("stop", "a"),
    ]
    assert sorted(respondents.news()) == [("start", "c"), ("stop", "a")]
    dealings.settled(None)
    assert tellers.news() == [("settled", "b", None), ("settled", "c", None)]
    dealings.stop()
    assert sorted(tellers.news()) == [("stop", "b"), ("stop", "c")]
    dealings.keep(["d"])
    assert tellers.news() == []


@pytest.mark.parametrize("text", ["x", "/x", "x/", "a/b/c"])
def test_a_service_is_named_with_its_namespace(text):
    with pytest.raises(ValueError, match=r"controller_service: .*NAMESPACE/NAME"):
        Config(controller_service=text)


def test_controllers_of_a_service_are_spoken_with_over_tls_unless_told_otherwise():
    assert Config(controller_service="a/b").secure
    assert not Config(controller_service="a/b", plain=True).secure
    assert not Config(plain=False).secure
