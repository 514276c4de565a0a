"""The integration bridge in Open vSwitch's database, as it must be.

`desired` says it as a value, `reconcile` compares it with what the database has and returns the
operations that are missing, as one transaction: so the bridge never exists without
`fail_mode=secure`, in which it forwards nothing that no flow allows. See ovs-vswitchd.conf.db(5).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ovsnet import names
from ovsnet.cni.ovsdb import Database, Operation, map_of, named, ovs_map, ovs_set, values_of

_INACTIVITY_MS = 5000
_MAX_BACKOFF_MS = 1000
"""Milliseconds after which a lost controller is looked for again at the latest."""


@dataclass(frozen=True)
class Tunnel:
    """The overlay's port: its sort, as Open vSwitch calls it, and its UDP port. Peers and keys come
    with the flows.
    """

    kind: str
    port: int


@dataclass(frozen=True)
class Bridge:
    """Everything about the bridge that the agent decides."""

    name: str
    node: str
    userspace: bool
    controllers: tuple[str, ...]
    gateway_mac: str
    mtu: int
    tunnel: Tunnel | None
    tables: Mapping[int, str]

    def columns(self) -> dict[str, Any]:
        """The bridge's own columns with exactly these values."""
        return {
            "fail_mode": "secure",
            "datapath_type": "netdev" if self.userspace else "system",
            "protocols": "OpenFlow15",
        }

    def other_config(self) -> dict[str, str]:
        """Keys of `other_config`; other keys are left alone."""
        return {
            "datapath-id": f"{names.datapath_id(self.node):016x}",
            "dp-desc": self.node,
            # OpenFlow's description carries it as the serial number, to the controller.
            "dp-sn": self.columns()["datapath_type"],
            "disable-in-band": "true",
        }

    def ports(self) -> dict[str, dict[str, Any]]:
        """The network's own ports, with the columns of their interfaces."""
        gateway = {
            "type": "internal",
            "mac": self.gateway_mac,
            "mtu_request": self.mtu,
            "ofport_request": names.GATEWAY_OFPORT,
        }
        if self.tunnel is None:
            return {names.GATEWAY_PORT: gateway}
        options = {"remote_ip": "flow", "key": "flow", "dst_port": str(self.tunnel.port)}
        tunnel = {
            "type": self.tunnel.kind,
            "options": ovs_map(options),
            "ofport_request": names.TUNNEL_OFPORT,
        }
        return {names.GATEWAY_PORT: gateway, names.TUNNEL_PORT: tunnel}

    def controller_rows(self) -> list[dict[str, Any]]:
        """One row per controller."""
        return [
            {
                "target": target,
                "connection_mode": "out-of-band",
                "inactivity_probe": _INACTIVITY_MS,
                "max_backoff": _MAX_BACKOFF_MS,
            }
            for target in self.controllers
        ]


@dataclass(frozen=True)
class Present:
    """What the database has of the bridge."""

    uuid: Any
    columns: Mapping[str, Any]
    other_config: Mapping[str, str]
    controllers: tuple[Mapping[str, Any], ...]
    tables: Mapping[int, str]
    interfaces: Mapping[str, Mapping[str, Any]]


_INTERFACE_COLUMNS = ("name", "type", "mac", "mtu_request", "options", "ofport_request")
_CONTROLLER_COLUMNS = ("target", "connection_mode", "inactivity_probe", "max_backoff")


def _select(table: str, where: list[Any], *columns: str) -> Operation:
    return {"op": "select", "table": table, "where": where, "columns": list(columns)}


def read(database: Database, name: str) -> Present | None:
    """The bridge as it is, or None if there is none.

    Raises:
        DatabaseUnreachable: no answer.
    """
    bridge_columns = ("_uuid", "fail_mode", "datapath_type", "protocols", "other_config")
    answer = database.transact(
        [
            _select("Bridge", [["name", "==", name]], *bridge_columns, "controller", "flow_tables"),
            _select("Controller", [], "_uuid", *_CONTROLLER_COLUMNS),
            _select("Flow_Table", [], "_uuid", "name"),
            _select("Interface", [["name", "==", names.GATEWAY_PORT]], *_INTERFACE_COLUMNS),
            _select("Interface", [["name", "==", names.TUNNEL_PORT]], *_INTERFACE_COLUMNS),
        ]
    )
    bridges, controllers, flow_tables, gateway, tunnel = (result["rows"] for result in answer)
    if not bridges:
        return None
    row = bridges[0]
    ours = {uuid[1] for uuid in values_of(row["controller"])}
    table_names = {t["_uuid"][1]: values_of(t["name"]) for t in flow_tables}
    return Present(
        row["_uuid"],
        {c: _single(row[c]) for c in ("fail_mode", "datapath_type", "protocols")},
        map_of(row["other_config"]),
        tuple(
            {column: _single(c[column]) for column in _CONTROLLER_COLUMNS}
            for c in controllers
            if c["_uuid"][1] in ours
        ),
        {
            number: table_names[uuid[1]][0]
            for number, uuid in map_of(row["flow_tables"]).items()
            if table_names.get(uuid[1])
        },
        {
            i["name"]: {column: _single(i[column]) for column in _INTERFACE_COLUMNS}
            for i in (*gateway, *tunnel)
        },
    )


def _single(value: Any) -> Any:
    """The one member of an optional column, None if it is empty."""
    members = values_of(value)
    return members[0] if len(members) == 1 else (members or None)


def reconcile(desired: Bridge, present: Present | None) -> list[Operation]:
    """The operations that make the bridge what it must be; none if it is.

    Whatever else is configured on the bridge stays.
    """
    if present is None:
        return _create(desired)
    own = ["_uuid", "==", present.uuid]
    operations: list[Operation] = []
    changed: dict[str, Any] = {
        c: v for c, v in desired.columns().items() if present.columns[c] != v
    }
    wrong = {k: v for k, v in desired.other_config().items() if present.other_config.get(k) != v}
    if wrong:
        changed["other_config"] = ovs_map({**present.other_config, **wrong})
    # Without a controller Open vSwitch forgets all of a bridge's flows: while none is known, as
    # may be when an agent has just started, those that were known stay.
    if desired.controllers and _sorted(desired.controller_rows()) != _sorted(present.controllers):
        inserts, uuids = _controllers(desired)
        operations += inserts
        changed["controller"] = uuids
    if dict(desired.tables) != dict(present.tables):
        inserts, mapping = _tables(desired)
        operations += inserts
        changed["flow_tables"] = mapping
    missing = {n: c for n, c in desired.ports().items() if n not in present.interfaces}
    for name, columns in desired.ports().items():
        operations += _corrected(name, columns, present.interfaces.get(name))
    if changed:
        operations.append({"op": "update", "table": "Bridge", "where": [own], "row": changed})
    inserts, uuids = _ports(missing)
    if missing:
        added = {
            "op": "mutate",
            "table": "Bridge",
            "where": [own],
            "mutations": [["ports", "insert", uuids]],
        }
        operations += [*inserts, added]
    return operations


def _sorted(rows: Any) -> list[Any]:
    return sorted((dict(row) for row in rows), key=lambda row: str(row["target"]))


def _corrected(
    name: str, columns: Mapping[str, Any], present: Mapping[str, Any] | None
) -> list[Operation]:
    if present is None:
        return []
    row = {c: v for c, v in columns.items() if present[c] != v}
    if not row:
        return []
    where = [["name", "==", name]]
    return [{"op": "update", "table": "Interface", "where": where, "row": row}]


def _controllers(desired: Bridge) -> tuple[list[Operation], Any]:
    rows = desired.controller_rows()
    inserts: list[Operation] = [
        {"op": "insert", "table": "Controller", "uuid-name": f"controller{i}", "row": row}
        for i, row in enumerate(rows)
    ]
    return inserts, ovs_set([named(f"controller{i}") for i in range(len(rows))])


def _tables(desired: Bridge) -> tuple[list[Operation], Any]:
    inserts: list[Operation] = [
        {
            "op": "insert",
            "table": "Flow_Table",
            "uuid-name": f"table{number}",
            "row": {"name": name},
        }
        for number, name in desired.tables.items()
    ]
    return inserts, ovs_map({number: named(f"table{number}") for number in desired.tables})


def _ports(ports: Mapping[str, Mapping[str, Any]]) -> tuple[list[Operation], Any]:
    inserts: list[Operation] = []
    for i, (name, columns) in enumerate(ports.items()):
        interface = {"name": name, **columns}
        inserts += [
            {
                "op": "insert",
                "table": "Interface",
                "uuid-name": f"interface{i}",
                "row": interface,
            },
            {
                "op": "insert",
                "table": "Port",
                "uuid-name": f"port{i}",
                "row": {"name": name, "interfaces": named(f"interface{i}")},
            },
        ]
    return inserts, ovs_set([named(f"port{i}") for i in range(len(ports))])


def _create(desired: Bridge) -> list[Operation]:
    controllers, controller_uuids = _controllers(desired)
    tables, table_uuids = _tables(desired)
    ports, port_uuids = _ports({desired.name: {"type": "internal"}, **desired.ports()})
    row = {
        "name": desired.name,
        **desired.columns(),
        "other_config": ovs_map(desired.other_config()),
        "controller": controller_uuids,
        "flow_tables": table_uuids,
        "ports": port_uuids,
    }
    bridge = {"op": "insert", "table": "Bridge", "uuid-name": "bridge", "row": row}
    attach = {
        "op": "mutate",
        "table": "Open_vSwitch",
        "where": [],
        "mutations": [["bridges", "insert", named("bridge")]],
    }
    return [*controllers, *tables, *ports, bridge, attach]
