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
from ovsnet.cni.ovsdb import Database, Operation, map_of, named, ovs_map, ovs_set, values_of
from ovsnet.cni.shaping import Limit

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


_LIMITED_PORT = "ovsnet-port"
"""Key of a limit's external_ids; its value is the port's name. Such a row stays when somebody takes
the port off the bridge, and is found again when it is put back.
"""

_MOST_BITS = 34_000_000_000
"""A second: what Open vSwitch 3.1 can limit to (32 bits of bytes)."""


@dataclass(frozen=True)
class PortLimit:
    """A limit of what goes into a pod, as the database has it: the operations that make it, and the
    reference to it.

    It is Open vSwitch's to keep: it removes every queueing discipline of a port that is not its
    own, when it starts and when its configuration changes.
    """

    operations: tuple[Operation, ...] = ()
    reference: Any = None


NO_LIMIT = PortLimit()


def new_limit(port: str, limit: Limit | None) -> PortLimit:
    """The limit of a port that is made; None: it gets none."""
    if limit is None:
        return NO_LIMIT
    row = {
        "type": "linux-htb",
        "other_config": ovs_map({"max-rate": str(min(limit.rate, _MOST_BITS))}),
        "external_ids": ovs_map({_LIMITED_PORT: port}),
    }
    insert = {"op": "insert", "table": "QoS", "uuid-name": "limit", "row": row}
    return PortLimit((insert,), named("limit"))


def known_limit(database: Database, port: str) -> PortLimit:
    """The limit that a port has had.

    Raises:
        DatabaseUnreachable: no answer.
    """
    rows = database.select("QoS", ["_uuid"], _limit_of(port))
    return PortLimit((), rows[0]["_uuid"]) if rows else NO_LIMIT


def remove_limits(database: Database) -> list[Operation]:
    """The operations that take the limits of all pods' ports away.

    Raises:
        DatabaseUnreachable: no answer.
    """
    return [
        {"op": "delete", "table": "QoS", "where": [["_uuid", "==", row["_uuid"]]]}
        for row in database.select("QoS", ["_uuid", "external_ids"])
        if _LIMITED_PORT in map_of(row["external_ids"])
    ]


def _limit_of(port: str) -> list[Any]:
    return [["external_ids", "includes", ovs_map({_LIMITED_PORT: port})]]


def attach_operations(
    bridge: str, port: str, owner: PortOwner, limit: PortLimit = NO_LIMIT
) -> list[Operation]:
    """One transaction's operations that put `port` on the bridge.

    Port names are unique in the database: if there is one already the transaction fails.
    """
    on_bridge = [["name", "==", bridge]]
    limits = {} if limit.reference is None else {"qos": limit.reference}
    return [
        *limit.operations,
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
            "row": {"name": port, "interfaces": named("interface"), **limits},
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
    rows = database.select("Port", ["_uuid", "qos"], [["name", "==", port]])
    operations: list[Operation] = []
    limited = any(values_of(row["qos"]) for row in rows)
    if limited or (not rows and known_limit(database, port) != NO_LIMIT):
        where = [["name", "==", port]]
        operations += [
            {"op": "update", "table": "Port", "where": where, "row": {"qos": ovs_set([])}},
            {"op": "delete", "table": "QoS", "where": _limit_of(port)},
        ]
    if rows:
        operations.append(_remove(bridge, [row["_uuid"] for row in rows]))
    if operations:
        database.transact(operations)


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
