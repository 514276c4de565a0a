"""What of a switch is written down when it ends, and when it is used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ovsnet.cni.flowsave import Saved, UnfitError, bundle, check, park, take, unpark, write

RUNDIR = Path("/run/openvswitch")
PORTS = {"br-int": 65534, "a": 3, "b": 4}
OTHERS = {"br-phy": {"br-phy": 65534, "uplink": 3}}
SAVED = Saved({"br-int": PORTS, **OTHERS}, {"br-int": "flow add table=0,actions=drop\n"})


def controller(number: int, target: str, **ids: str) -> dict[str, Any]:
    pairs = [[k.replace("_", "-"), v] for k, v in ids.items()]
    return {"_uuid": ["uuid", f"c{number}"], "target": target, "external_ids": ["map", pairs]}


def carried_out(rows: list[dict[str, Any]], operations: list[Any]) -> list[dict[str, Any]]:
    changed = {op["where"][0][2][1]: op["row"] for op in operations}
    return [row | changed.get(row["_uuid"][1], {}) for row in rows]


BRIDGES = [
    {"name": "br-int", "controller": ["set", [["uuid", "c1"], ["uuid", "c2"]]]},
    {"name": "br-phy", "controller": ["set", []]},
    {"name": "br-x", "controller": ["uuid", "c3"]},
]
ROWS = [
    controller(1, "ssl:192.0.2.1:6653"),
    controller(2, "ssl:192.0.2.2:6653", of="mine"),
    controller(3, "tcp:192.0.2.3:6653"),
]
PARKED = controller(1, "unix:/x", ovsnet_target="tcp:192.0.2.1:6653")


def test_parked_controllers_are_elsewhere_and_come_back_as_they_were() -> None:
    parked = carried_out(ROWS, park(RUNDIR, BRIDGES, ROWS))
    nobody = "unix:/run/openvswitch/br-int.controller"
    assert [row["target"] for row in parked] == [
        *(nobody, nobody, "unix:/run/openvswitch/br-x.controller")
    ]
    assert carried_out(parked, unpark(parked)) == ROWS


def test_who_is_parked_stays_and_who_is_not_stays() -> None:
    parked = carried_out(ROWS, park(RUNDIR, BRIDGES, ROWS))
    assert park(RUNDIR, BRIDGES, parked) == []
    assert unpark(ROWS) == []
    half = [parked[0], *ROWS[1:]]
    assert carried_out(half, park(RUNDIR, BRIDGES, half)) == parked
    assert carried_out(half, unpark(half)) == ROWS


def test_a_bundle_has_groups_first_and_nothing_that_is_said_about_them() -> None:
    groups = "OFPST_GROUP_DESC reply (OF1.5) (xid=0x2):\n group_id=1,type=select,bucket=actions=2\n"
    flows = (
        "OFPST_FLOW reply (OF1.5) (xid=0x2):\n"
        " priority=5,ip,in_port=1 actions=group:1\n"
        " cookie=0x7, table=3, priority=0 actions=drop\n"
    )
    assert bundle(groups, flows) == (
        "group add group_id=1,type=select,bucket=actions=2\n"
        "flow add priority=5,ip,in_port=1 actions=group:1\n"
        "flow add cookie=0x7, table=3, priority=0 actions=drop\n"
    )
    assert bundle("", "") == ""


def test_what_is_written_down_is_there_once(tmp_path: Path) -> None:
    path = tmp_path / "saved"
    assert take(path) is None
    write(path, SAVED)
    assert path.stat().st_mode & 0o777 == 0o600
    assert take(path) == SAVED
    assert take(path) is None
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("cut", [0, 1, 63, 64, 65, 100, -1])
def test_what_is_cut_off_is_damaged_and_gone(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "saved"
    write(path, SAVED)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(UnfitError, match="damaged"):
        take(path)
    assert not path.exists()


def test_what_is_changed_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "saved"
    write(path, SAVED)
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(UnfitError, match="damaged"):
            take(path)


@pytest.mark.parametrize(
    "ports",
    [PORTS, PORTS | {"new": 5}, {"br-int": 65534, "b": 4}, {}],
    ids=["the same", "one is new", "one is gone", "all are gone"],
)
def test_flows_come_back_where_ports_have_their_numbers(ports: dict[str, int]) -> None:
    check(SAVED, {"br-int": ports, **OTHERS}, [PARKED])


@pytest.mark.parametrize(
    "ports",
    [
        PORTS | {"a": 5},
        PORTS | {"a": 4, "b": 3},
        {"br-int": 65534, "a": 3, "new": 4},
        {"b": 3},
    ],
    ids=["another", "exchanged", "that of one that is gone", "that of another that is gone"],
)
def test_flows_do_not_come_back_where_a_port_has_another_number(ports: dict[str, int]) -> None:
    with pytest.raises(UnfitError, match="of br-int has another number"):
        check(SAVED, {"br-int": ports, **OTHERS}, [PARKED])


def test_flows_do_not_come_back_where_a_controller_may_have_been() -> None:
    with pytest.raises(UnfitError, match="may have written"):
        check(SAVED, SAVED.ports, [PARKED, ROWS[1]])
