"""What the agent writes down for uninstalling."""

from __future__ import annotations

from pathlib import Path

import msgspec

from ovsnet.cni import trail
from ovsnet.cni.config import Config
from ovsnet.cni.trail import Places, Setting, TrailKeeper

PLACES = Places.of(Config())


def test_without_a_trail_everything_is_where_the_defaults_have_it(tmp_path: Path) -> None:
    found = trail.read(tmp_path)
    assert found.places == PLACES
    assert found.places.configuration == "/etc/cni/net.d/10-ovsnet.conflist"
    assert (found.plugins, found.settings) == ((), ())


def test_what_is_noted_is_read_again(tmp_path: Path) -> None:
    elsewhere = msgspec.structs.replace(PLACES, plugins="/home/kubernetes/bin")
    keeper = TrailKeeper(tmp_path, elsewhere, "boot 1")
    keeper.brings("portmap")
    keeper.brings("portmap")
    keeper.changes("ipv4/ip_forward", "0", "1")
    found = trail.read(tmp_path)
    assert found.places == elsewhere
    assert found.plugins == ("portmap",)
    assert found.settings == (Setting("ipv4/ip_forward", "0", "1"),)


def test_what_a_setting_was_before_the_first_change_counts(tmp_path: Path) -> None:
    keeper = TrailKeeper(tmp_path, PLACES, "boot 1")
    keeper.changes("ipv4/ip_forward", "0", "1")
    keeper.changes("ipv6/conf/all/forwarding", "0", "1")
    # Somebody has set it to something else meanwhile, and the agent has set it again.
    TrailKeeper(tmp_path, PLACES, "boot 1").changes("ipv4/ip_forward", "5", "1")
    assert trail.read(tmp_path).settings == (
        Setting("ipv6/conf/all/forwarding", "0", "1"),
        Setting("ipv4/ip_forward", "0", "1"),
    )


def test_a_boot_undoes_settings_but_takes_no_plugin(tmp_path: Path) -> None:
    keeper = TrailKeeper(tmp_path, PLACES, "boot 1")
    keeper.brings("loopback")
    keeper.changes("ipv4/ip_forward", "0", "1")
    TrailKeeper(tmp_path, PLACES, "boot 2")
    found = trail.read(tmp_path)
    assert (found.boot, found.plugins, found.settings) == ("boot 2", ("loopback",), ())


def test_an_agent_starts_in_spite_of_a_broken_trail(tmp_path: Path) -> None:
    (tmp_path / "trail.json").write_text('{"places": ')
    TrailKeeper(tmp_path, PLACES, "boot 1")
    assert trail.read(tmp_path).places == PLACES
