"""The underlay's own bridge in Open vSwitch's database: with the underlay device as its port, and
the device's MAC, under which the network knows the node. See ovs-vswitchd.conf.db(5).

It forwards by itself, like any Ethernet switch: what its port and the device have to say to each
other must not wait for a controller.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ovsnet.cni.ovsdb import Database, Operation, map_of, named, ovs_map, ovs_set, values_of

MARK = "ovsnet-underlay"
"""Key of `external_ids` of a bridge that the agent has made; its value is the device."""

RECEIVE_OFFLOAD = "ovsnet-underlay-gro"
"""Key that says, by `off`, that the agent has turned the device's receive offload off."""


@dataclass(frozen=True)
class Uplink:
    """A bridge and the underlay device in it."""

    bridge: str
    device: str
    mac: str


@dataclass(frozen=True)
class Present:
    """What the database has: bridges by name, each with its row and its ports."""

    bridges: Mapping[str, Mapping[str, Any]]
    ports: Mapping[str, tuple[str, ...]]

    def external_ids(self, bridge: str) -> dict[str, str]:
        """Those of one bridge."""
        return map_of(self.bridges[bridge]["external_ids"])

    def made(self) -> dict[str, str]:
        """The bridges that an agent has made, each with its device."""
        ids = {name: self.external_ids(name) for name in self.bridges}
        return {name: known[MARK] for name, known in ids.items() if MARK in known}

    def holder(self, device: str) -> str | None:
        """The bridge that has the device as a port."""
        return next((name for name, ports in self.ports.items() if device in ports), None)


class NotOursError(Exception):
    """A bridge or port is somebody else's; the text says what to configure."""


def read(database: Database) -> Present:
    """All bridges.

    Raises:
        DatabaseUnreachable: no answer.
    """
    columns = ["_uuid", "name", "datapath_type", "fail_mode", "other_config", "external_ids"]
    answer = database.transact(
        [
            {"op": "select", "table": "Bridge", "where": [], "columns": [*columns, "ports"]},
            {"op": "select", "table": "Port", "where": [], "columns": ["_uuid", "name"]},
        ]
    )
    names = {port["_uuid"][1]: port["name"] for port in answer[1]["rows"]}
    rows = answer[0]["rows"]
    return Present(
        {row["name"]: row for row in rows},
        {row["name"]: tuple(names[uuid[1]] for uuid in values_of(row["ports"])) for row in rows},
    )


def reconcile(desired: Uplink, present: Present) -> list[Operation]:
    """The operations that make the bridge what it must be; none if it is.

    Raises:
        NotOursError: the bridge or the device's port belongs to somebody else.
    """
    name, device = desired.bridge, desired.device
    holder = present.holder(device)
    if holder not in {None, name}:
        raise NotOursError(
            f"underlay_bridge: device {device} is a port of the bridge {holder} already; give that"
            " bridge's port the address and name it in the option `underlay`"
        )
    row = present.bridges.get(name)
    if row is None:
        return _create(desired)
    if present.external_ids(name).get(MARK) != device:
        raise NotOursError(
            f"underlay_bridge: a bridge {name} is there that the agent has not made for {device};"
            " name another one, or give it the address and name it in the option `underlay`"
        )
    changed: dict[str, Any] = {c: v for c, v in _COLUMNS.items() if _single(row[c]) != v}
    config = map_of(row["other_config"])
    if any(config.get(k) != v for k, v in _other_config(desired).items()):
        changed["other_config"] = ovs_map({**config, **_other_config(desired)})
    where = [["_uuid", "==", row["_uuid"]]]
    operations: list[Operation] = []
    if changed:
        operations.append({"op": "update", "table": "Bridge", "where": where, "row": changed})
    if holder is None:
        inserts, uuids = _ports({device: {}})
        added = {
            "op": "mutate",
            "table": "Bridge",
            "where": where,
            "mutations": [["ports", "insert", uuids]],
        }
        operations += [*inserts, added]
    return operations


_COLUMNS = {"datapath_type": "netdev", "fail_mode": "standalone"}


def _other_config(desired: Uplink) -> dict[str, str]:
    return {"hwaddr": desired.mac}


def _single(value: Any) -> Any:
    members = values_of(value)
    return members[0] if members else None


def _ports(ports: Mapping[str, Mapping[str, Any]]) -> tuple[list[Operation], Any]:
    inserts: list[Operation] = []
    for i, (name, columns) in enumerate(ports.items()):
        interface = {"name": name, **columns}
        port = {"name": name, "interfaces": named(f"interface{i}")}
        for table, kind, row in (("Interface", "interface", interface), ("Port", "port", port)):
            inserts.append({"op": "insert", "table": table, "uuid-name": f"{kind}{i}", "row": row})
    return inserts, ovs_set([named(f"port{i}") for i in range(len(ports))])


def _create(desired: Uplink) -> list[Operation]:
    inserts, uuids = _ports({desired.bridge: {"type": "internal"}, desired.device: {}})
    row = {
        "name": desired.bridge,
        **_COLUMNS,
        "other_config": ovs_map(_other_config(desired)),
        "external_ids": ovs_map({MARK: desired.device}),
        "ports": uuids,
    }
    bridge = {"op": "insert", "table": "Bridge", "uuid-name": "bridge", "row": row}
    attach = {
        "op": "mutate",
        "table": "Open_vSwitch",
        "where": [],
        "mutations": [["bridges", "insert", named("bridge")]],
    }
    return [*inserts, bridge, attach]


def remove(bridge: str, present: Present) -> list[Operation]:
    """The operations that take a bridge away; none if there is none."""
    row = present.bridges.get(bridge)
    if row is None:
        return []
    return [
        {
            "op": "mutate",
            "table": "Open_vSwitch",
            "where": [],
            "mutations": [["bridges", "delete", row["_uuid"]]],
        }
    ]


def note(bridge: str, key: str, value: str) -> Operation:
    """The operation that writes something down about a bridge."""
    return {
        "op": "mutate",
        "table": "Bridge",
        "where": [["name", "==", bridge]],
        "mutations": [["external_ids", "insert", ovs_map({key: value})]],
    }


ASK_FOR_A_LOOK: Operation = {
    "op": "mutate",
    "table": "Open_vSwitch",
    "where": [],
    "mutations": [["next_cfg", "+=", 1]],
}
"""Has ovs-vswitchd look at its configuration; it writes the number into `cur_cfg` when it has."""


def looked(database: Database) -> bool:
    """True if ovs-vswitchd has done what it was last asked for.

    Raises:
        DatabaseUnreachable: no answer.
    """
    rows = database.select("Open_vSwitch", ["cur_cfg", "next_cfg"])
    return bool(rows) and rows[0]["cur_cfg"] >= rows[0]["next_cfg"]


def fault(database: Database, device: str) -> str:
    """Why ovs-vswitchd could not open the device; empty if it could.

    Raises:
        DatabaseUnreachable: no answer.
    """
    rows = database.select("Interface", ["error", "ofport"], [["name", "==", device]])
    if not rows:
        return "it has no such port"
    errors, numbers = values_of(rows[0]["error"]), values_of(rows[0]["ofport"])
    if errors:
        return str(errors[0])
    return "" if numbers and numbers[0] > 0 else "it has given the port no number yet"
