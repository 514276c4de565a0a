"""Open vSwitch's own TLS: the one row of the table SSL (ovs-vswitchd.conf.db(5)).

It names files, which ovs-vswitchd reads again when they change; so it is written once. Connections
that are up stay up.
"""

from __future__ import annotations

from typing import Any

from ovsnet.cni.credentials import Files
from ovsnet.cni.ovsdb import Database, Operation, map_of, named, ovs_map, ovs_set, values_of

_OWNER = {"owner": "ovsnet"}
_COLUMNS = ("private_key", "certificate", "ca_cert", "bootstrap_ca_cert")


class Taken(Exception):  # noqa: N818
    """The row is somebody else's, and Open vSwitch has but one."""


def desired(files: Files) -> dict[str, Any]:
    """The row's columns with exactly these values."""
    return {
        "private_key": str(files.node),
        "certificate": str(files.node),
        "ca_cert": str(files.trusted),
        "bootstrap_ca_cert": False,
    }


def reconcile(wanted: dict[str, Any], present: dict[str, Any] | None) -> list[Operation]:
    """The operations that make the row what it must be; none if it is.

    `present` are its columns, with `external_ids`, as the database has them; None: there is none.

    Raises:
        Taken: it names other files, and was not written by an agent.
    """
    if present is not None:
        if all(present[column] == value for column, value in wanted.items()):
            return []
        if not _OWNER.items() <= map_of(present["external_ids"]).items():
            raise Taken(
                "Open vSwitch has TLS settings of somebody else, with the key"
                f" {present['private_key']}; `ovs-vsctl del-ssl` makes way for the network's own"
            )
    row = wanted | {"external_ids": ovs_map(_OWNER)}
    update = {"op": "update", "table": "Open_vSwitch", "where": [], "row": {"ssl": named("ssl")}}
    return [{"op": "insert", "table": "SSL", "uuid-name": "ssl", "row": row}, update]


def ensure(database: Database, files: Files) -> bool:
    """Have Open vSwitch use the files; True if that is new.

    Raises:
        DatabaseUnreachable: no answer.
        Taken: it uses other files for somebody else.
    """
    operations = reconcile(desired(files), _present(database))
    if operations:
        database.transact(operations)
    return bool(operations)


def remove(database: Database) -> list[Operation]:
    """The operations that take the row away; none if there is none, or it is somebody else's.

    Raises:
        DatabaseUnreachable: no answer.
    """
    present = _present(database)
    if present is None or not _OWNER.items() <= map_of(present["external_ids"]).items():
        return []
    return [{"op": "update", "table": "Open_vSwitch", "where": [], "row": {"ssl": ovs_set([])}}]


def _present(database: Database) -> dict[str, Any] | None:
    (switch,) = database.select("Open_vSwitch", ["ssl"])
    own = [["_uuid", "==", uuid] for uuid in values_of(switch["ssl"])]
    rows = database.select("SSL", [*_COLUMNS, "external_ids"], own) if own else []
    return rows[0] if rows else None
