"""Pods' ports in Open vSwitch's database: the operations that add, find and remove them.

Each port carries in its interface's external_ids whose it is. Operators find things by them, and
an agent that lost its own file learns from them what runs (see ovs-vswitchd.conf.db(5)).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ovsnet.cni import connections
from ovsnet.cni.conf import Attachment, PodRef
from ovsnet.cni.ovsdb import Database, Operation, map_of, named, ovs_map, values_of

OWNER = "ovsnet"


@dataclass(frozen=True)
class PortOwner:
    """Whose port it is, as its interface's external_ids say."""

    network: str
    pod: PodRef
    attachment: Attachment
    netns: str
    netns_id: str
    boot_id: str
    addresses: tuple[str, ...]

    def external_ids(self) -> dict[str, str]:
        """The key-value pairs that are written to the database."""
        return {
            "owner": OWNER,
            "network": self.network,
            "pod-namespace": self.pod.namespace,
            "pod-name": self.pod.name,
            "pod-uid": self.pod.uid,
            "container-id": self.attachment.container_id,
            "ifname": self.attachment.ifname,
            "netns": self.netns,
            "netns-id": self.netns_id,
            "boot-id": self.boot_id,
            "addresses": ",".join(self.addresses),
        }


def owner_in(external_ids: Mapping[str, str]) -> PortOwner | None:
    """The owner that external_ids name, or None if the port is not one of a pod's."""
    e = external_ids
    if e.get("owner") != OWNER:
        return None
    try:
        return PortOwner(
            e["network"],
            PodRef(e["pod-namespace"], e["pod-name"], e["pod-uid"]),
            Attachment(e["container-id"], e["ifname"]),
            e["netns"],
            e["netns-id"],
            e["boot-id"],
            tuple(a for a in e["addresses"].split(",") if a),
        )
    except KeyError:
        return None


def attach_operations(bridge: str, port: str, owner: PortOwner) -> list[Operation]:
    """One transaction's operations that put `port` on the bridge.

    Port names are unique in the database: if there is one already the transaction fails.
    """
    on_bridge = [["name", "==", bridge]]
    return [
        {
            "op": "insert",
            "table": "Interface",
            "uuid-name": "interface",
            "row": {"name": port, "external_ids": ovs_map(owner.external_ids())},
        },
        {
            "op": "insert",
            "table": "Port",
            "uuid-name": "port",
            "row": {"name": port, "interfaces": named("interface")},
        },
        {
            "op": "mutate",
            "table": "Bridge",
            "where": on_bridge,
            "mutations": [["ports", "insert", named("port")]],
        },
    ]


def detach(database: Database, bridge: str, port: str) -> None:
    """Take a port off the bridge; one that is not there is no error.

    Raises:
        DatabaseUnreachable, TransactionError: it may still be there.
    """
    rows = database.select("Port", ["_uuid"], [["name", "==", port]])
    if rows:
        database.transact([_remove(bridge, [row["_uuid"] for row in rows])])


def _remove(bridge: str, uuids: list[Any]) -> Operation:
    return {
        "op": "mutate",
        "table": "Bridge",
        "where": [["name", "==", bridge]],
        "mutations": [["ports", "delete", ["set", uuids]]],
    }


@dataclass(frozen=True)
class SwitchPort:
    """What the database says of one interface of the bridge."""

    name: str
    owner: PortOwner | None
    ofport: int | None
    """OpenFlow port number; None as long as the switch has not taken the port up, -1 if it
    cannot."""
    error: str


_COLUMNS = ("name", "external_ids", "ofport", "error")


def _switch_port(row: Mapping[str, Any]) -> SwitchPort:
    ofport = values_of(row["ofport"])
    error = values_of(row["error"])
    return SwitchPort(
        row["name"],
        owner_in(map_of(row["external_ids"])),
        ofport[0] if ofport else None,
        error[0] if error else "",
    )


def find(database: Database, port: str) -> SwitchPort | None:
    """What the database says of one port.

    Raises:
        DatabaseUnreachable: no answer.
    """
    rows = database.select("Interface", _COLUMNS, [["name", "==", port]])
    return _switch_port(rows[0]) if rows else None


def on_bridge(database: Database, bridge: str) -> list[SwitchPort]:
    """All interfaces of the bridge.

    Raises:
        DatabaseUnreachable: no answer.
    """
    answer = database.transact(
        [
            {
                "op": "select",
                "table": "Bridge",
                "where": [["name", "==", bridge]],
                "columns": ["ports"],
            },
            {"op": "select", "table": "Port", "where": [], "columns": ["_uuid", "interfaces"]},
            {
                "op": "select",
                "table": "Interface",
                "where": [],
                "columns": ["_uuid", *_COLUMNS],
            },
        ]
    )
    bridges, all_ports, interfaces = (result["rows"] for result in answer)
    if not bridges:
        return []
    ours = {uuid[1] for uuid in values_of(bridges[0]["ports"])}
    members = {
        uuid[1]
        for port in all_ports
        if port["_uuid"][1] in ours
        for uuid in values_of(port["interfaces"])
    }
    return [_switch_port(row) for row in interfaces if row["_uuid"][1] in members]


def controllers_connected(database: Database, bridge: str) -> dict[str, bool]:
    """Whether the bridge's switch has a connection to each of its controllers, by target.

    Raises:
        DatabaseUnreachable: no answer.
    """
    answer = database.transact(
        [
            {
                "op": "select",
                "table": "Bridge",
                "where": [["name", "==", bridge]],
                "columns": ["controller"],
            },
            {
                "op": "select",
                "table": "Controller",
                "where": [],
                "columns": ["_uuid", "target", "is_connected"],
            },
        ]
    )
    bridges, controllers = (result["rows"] for result in answer)
    if not bridges:
        return {}
    ours = {uuid[1] for uuid in values_of(bridges[0]["controller"])}
    peers = connections.established()
    return {
        c["target"]: c["is_connected"] or connections.peer_of(c["target"]) in peers
        for c in controllers
        if c["_uuid"][1] in ours
    }
