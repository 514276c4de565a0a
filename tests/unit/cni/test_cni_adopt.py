"""Records, switch and kernel in every combination of one endpoint, and several beside it."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from ovsnet.cni.adopt import Observed, Repairs, count, decide
from ovsnet.cni.conf import Attachment, PodRef
from ovsnet.cni.ports import PortOwner, SwitchPort, owner_in
from ovsnet.cni.record import Record, State
from ovsnet.names import GATEWAY_PORT

BOOT = "this-boot"
POD = PodRef("shop", "web", "u")
OWNER = PortOwner("ovsnet", POD, Attachment("c", "eth0"), "/x", "4:1", BOOT, ("10.0.0.5",))
PORT = SwitchPort("web-abc", OWNER, 5, "")
RECORD = Record(
    Attachment("c", "eth0"),
    State.READY,
    "ovsnet",
    POD,
    "/x",
    "4:1",
    BOOT,
    "web-abc",
    None,
    ("10.0.0.5",),
)
NOTHING = Repairs()


def seen(
    record: Record | None = None, port: SwitchPort | None = None, *, link: bool = False
) -> Observed:
    return Observed(
        (record,) if record else (),
        (port,) if port else (),
        frozenset({"web-abc"}) if link else frozenset(),
        BOOT,
    )


def test_what_runs_is_left_alone():
    assert decide(seen(RECORD, PORT, link=True)) == NOTHING
    assert count(NOTHING) == 0


@pytest.mark.parametrize("state", [State.ADDING, State.REMOVING])
@pytest.mark.parametrize(("port", "link"), list(product([PORT, None], [True, False])))
def test_what_nobody_finished_goes(state: State, port: SwitchPort | None, link: bool):
    record = replace(RECORD, state=state)
    assert decide(seen(record, port, link=link)) == Repairs(remove=(record,))


@pytest.mark.parametrize("port", [PORT, None])
def test_a_pod_whose_pair_is_gone_goes(port: SwitchPort | None):
    assert decide(seen(RECORD, port)) == Repairs(remove=(RECORD,))


@pytest.mark.parametrize("link", [True, False])
def test_what_was_before_the_reboot_goes(link: bool):
    old = replace(RECORD, boot_id="before")
    assert decide(seen(old, PORT, link=link)) == Repairs(remove=(old,))


def test_a_port_that_others_removed_comes_back():
    assert decide(seen(RECORD, None, link=True)) == Repairs(plug=(RECORD,))


def test_a_superseded_sandbox_waits_for_its_delete_until_the_next_boot():
    old = replace(RECORD, state=State.SUPERSEDED, port=None, addresses=())
    assert decide(seen(old)) == NOTHING
    old = replace(old, boot_id="before")
    assert decide(seen(old)) == Repairs(forget=(old,))


def test_a_running_pod_without_a_record_is_taken_in():
    assert decide(seen(None, PORT, link=True)) == Repairs(adopt=(RECORD,))


def test_not_if_its_address_is_another_pods_by_now():
    other = replace(RECORD, attachment=Attachment("d", "eth0"), port="other")
    observed = replace(seen(other, PORT), links=frozenset({"web-abc", "other"}))
    found = decide(observed)
    assert (found.adopt, found.unplug) == ((), ("web-abc",))


def test_a_port_without_record_and_pair_goes():
    assert decide(seen(None, PORT)) == Repairs(unplug=("web-abc",))
    before = replace(PORT, owner=replace(OWNER, boot_id="before"))
    assert decide(seen(None, before, link=True)) == Repairs(unplug=("web-abc",))


def test_ports_of_others_are_only_named():
    assert decide(seen(None, replace(PORT, owner=None))) == Repairs(strangers=("web-abc",))
    assert decide(seen(None, SwitchPort(GATEWAY_PORT, None, 1, ""))) == NOTHING


def test_an_owner_survives_the_database():
    assert owner_in(OWNER.external_ids()) == OWNER
    assert owner_in({}) is None
    assert owner_in({"owner": "ovsnet"}) is None
