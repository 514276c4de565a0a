"""The node's own parts as values: bridge, underlay, datapath, source, files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ovsnet import names
from ovsnet.cni import bridge, datapath, install, underlay
from ovsnet.cni.bridge import Bridge, Tunnel
from ovsnet.cni.diagnosis import Silence
from ovsnet.cni.ports import SwitchPort
from ovsnet.cni.ranges import NodeRanges
from ovsnet.cni.source import WatchedSource

RANGES = NodeRanges.of(["10.77.3.0/24", "fd00:77:3::/64"])
BRIDGE = Bridge(
    "br-int",
    "node-1",
    True,
    ("tcp:192.0.2.1:6653",),
    "0a:58:0a:4d:03:01",
    1450,
    Tunnel("vxlan", 4789),
    {0: "classify", 1: "spoof_guard"},
)


def as_wanted(desired: Bridge) -> bridge.Present:
    absent = dict.fromkeys(bridge._INTERFACE_COLUMNS)
    return bridge.Present(
        ["uuid", "x"],
        desired.columns(),
        desired.other_config() | {"mac-table-size": "1"},
        tuple(desired.controller_rows()),
        desired.tables,
        {n: absent | {"name": n} | columns for n, columns in desired.ports().items()},
    )


def test_a_bridge_is_made_closed_in_one_transaction():
    operations = bridge.reconcile(BRIDGE, None)
    (made,) = [o for o in operations if o["op"] == "insert" and o["table"] == "Bridge"]
    assert made["row"]["fail_mode"] == "secure"
    assert made["row"]["protocols"] == "OpenFlow15"
    inserted = {o["row"]["name"] for o in operations if o.get("table") == "Interface"}
    assert inserted == {"br-int", names.GATEWAY_PORT, names.TUNNEL_PORT}
    assert operations[-1]["table"] == "Open_vSwitch"


def test_a_bridge_that_is_right_is_left_alone():
    assert bridge.reconcile(BRIDGE, as_wanted(BRIDGE)) == []


@pytest.mark.parametrize(
    ("change", "tables"),
    [
        ({"userspace": False}, {"Bridge"}),
        ({"node": "node-2"}, {"Bridge"}),
        ({"controllers": ("tcp:192.0.2.2:6653",)}, {"Controller", "Bridge"}),
        ({"tables": {0: "classify"}}, {"Flow_Table", "Bridge"}),
        ({"mtu": 1400}, {"Interface"}),
        ({"tunnel": Tunnel("vxlan", 8472)}, {"Interface"}),
        ({"tunnel": Tunnel("geneve", 6081)}, {"Interface"}),
    ],
)
def test_only_what_differs_is_written(change: dict, tables: set[str]):
    operations = bridge.reconcile(replace(BRIDGE, **change), as_wanted(BRIDGE))
    assert {o["table"] for o in operations} == tables


def test_while_no_controller_is_known_those_that_were_stay():
    assert bridge.reconcile(replace(BRIDGE, controllers=()), as_wanted(BRIDGE)) == []


def test_the_settings_of_others_stay():
    changed = replace(BRIDGE, node="node-2")
    (operation,) = bridge.reconcile(changed, as_wanted(BRIDGE))
    assert ["mac-table-size", "1"] in operation["row"]["other_config"][1]


def test_the_tunnel_is_added_when_it_is_missing():
    without = replace(BRIDGE, tunnel=None)
    operations = bridge.reconcile(BRIDGE, as_wanted(without))
    assert [o["op"] for o in operations] == ["insert", "insert", "mutate"]


@pytest.mark.parametrize(
    ("width", "over_ipv4", "tunnel", "with_ipv6", "expected"),
    [
        (1500, True, True, True, 1450),
        (1500, False, True, True, 1430),
        (9000, True, True, False, 8950),
        (1500, True, False, True, 1500),
        (1330, True, True, True, 1280),
        (1329, True, True, False, 1279),
    ],
)
def test_the_mtu_that_is_left(width, over_ipv4, tunnel, with_ipv6, expected):
    left = underlay.pod_mtu(width, over_ipv4=over_ipv4, tunnel=tunnel, with_ipv6=with_ipv6)
    assert left == expected


def test_an_underlay_that_is_too_narrow():
    with pytest.raises(underlay.UnderlayError, match="MTU 1329 leaves 1279"):
        underlay.pod_mtu(1329, over_ipv4=True, tunnel=True, with_ipv6=True)


@pytest.mark.parametrize(
    ("option", "kernel", "userspace"),
    [
        ("auto", True, False),
        ("auto", False, True),
        ("system", False, False),
        ("netdev", True, True),
    ],
)
def test_the_datapath_is_chosen_with_a_reason(option: str, kernel: bool, userspace: bool):
    choice = datapath.choose(option, kernel=kernel)
    assert (choice.userspace, bool(choice.reason)) == (userspace, True)


@pytest.mark.parametrize(
    ("version", "warned"),
    [
        ("3.1.0", True),
        ("3.1.1", False),
        ("2.13.10", True),
        ("2.13.11", False),
        ("2.12.9", True),
        ("3.2.0", False),
        ("4.0.0-1", False),
        ("", True),
    ],
)
def test_versions_with_a_known_hole_are_named(version: str, warned: bool):
    assert bool(datapath.version_warning(version)) == warned


@pytest.mark.parametrize(
    ("threads", "lacking"),
    [
        (["ovs-vswitchd", "handler1", "revalidator2"], False),
        (["ovs-vswitchd", "revalidator2"], True),
        (["ovs-vswitchd"], False),
    ],
)
def test_a_switch_without_handlers_is_noticed(tmp_path: Path, threads: list[str], lacking: bool):
    (tmp_path / "ovs-vswitchd.pid").write_text("7\n")
    for number, name in enumerate(threads):
        task = tmp_path / "7" / "task" / str(number)
        task.mkdir(parents=True)
        (task / "comm").write_text(name + "\n")
    assert datapath.lacks_handlers(tmp_path, tmp_path) == lacking


def test_without_a_pid_file_nothing_is_concluded(tmp_path: Path):
    assert not datapath.lacks_handlers(tmp_path, tmp_path)


SILENCE = Silence(
    "shop/web", "web-abc", "br-int", 15, SwitchPort("web-abc", None, 5, ""), {"tcp:c": True}, True
)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"switch_answers": False}, "ovs-vswitchd does not run"),
        ({"found": None}, "removed from br-int"),
        ({"found": SwitchPort("web-abc", None, None, "")}, "did not take up port web-abc"),
        ({"found": SwitchPort("web-abc", None, -1, "No such device")}, "No such device"),
        ({"controllers": {"tcp:c": False}}, "no connection to a controller (tcp:c)"),
        ({"controllers": {}}, "none is configured"),
        ({}, "installed no flows for port web-abc of pod shop/web within 15 s"),
    ],
)
def test_silence_has_a_reason(change: dict, words: str):
    silence = replace(SILENCE, **change)
    assert words in silence.explain()
    assert silence.refused == (not change)


class Unstarted:
    def start(self) -> None: ...
    def stop(self) -> None: ...


def test_ranges_are_remembered_over_a_restart(tmp_path: Path):
    memory = tmp_path / "ranges"
    heard = []

    def make() -> WatchedSource:
        def watch(tell):
            heard.append(tell)
            return Unstarted()

        return WatchedSource("node-1", memory, watch)

    first = make()
    assert first.ranges() is None
    changes = []
    first.start(lambda: changes.append(1))
    heard[0]([])
    assert (first.ranges(), changes) == (None, [])
    heard[0](["10.77.3.0/24", "fd00:77:3::/64"])
    heard[0](["10.77.3.0/24", "fd00:77:3::/64"])
    assert (first.ranges(), changes) == (RANGES, [1])
    heard[0](["10.77.3.0/24", "10.77.4.0/24"])
    assert first.ranges() == RANGES
    assert make().ranges() == RANGES
    memory.write_text("nonsense")
    assert make().ranges() is None


def test_the_versions_that_all_plugins_of_the_list_speak():
    everything = ("0.3.1", "0.4.0", "1.0.0", "1.1.0")
    alone = install.configuration("n", [])
    assert (alone["cniVersion"], alone["cniVersions"]) == ("1.0.0", list(everything))
    older = install.configuration("n", [("portmap", everything[:3])])
    assert (older["cniVersion"], older["cniVersions"]) == ("1.0.0", list(everything[:3]))
    assert [p["type"] for p in older["plugins"]] == ["ovsnet", "portmap"]


def test_a_chain_without_a_common_version_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"portmap: none"):
        install.configuration("n", [("portmap", [])])


def test_a_file_is_put_in_place_whole_and_only_if_it_differs(tmp_path: Path):
    path = tmp_path / "deep" / "file"
    assert install.write(path, "one", 0o755)
    assert not install.write(path, "one", 0o755)
    path.chmod(0o600)
    assert install.write(path, "one", 0o755)
    assert install.write(path, "two", 0o755)
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("two", 0o755)
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("interpreter", ["/a b/python3", "/" + "x" * 260])
def test_an_interpreter_that_no_script_can_name(interpreter: str):
    with pytest.raises(ValueError, match="interpreter"):
        install.plugin_text(interpreter, "/s", 1)
