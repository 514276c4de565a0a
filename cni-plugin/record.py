"""One attachment on record: what the agent must know of it to take it down, and its row in the
table.
"""

from __future__ import annotations

import enum
import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ovsnet.cni.conf import Attachment, PodRef

TABLE = """
CREATE TABLE attachment (
    container_id TEXT NOT NULL,
    ifname       TEXT NOT NULL,
    state        TEXT NOT NULL,
    network      TEXT NOT NULL,
    namespace    TEXT NOT NULL,
    pod          TEXT NOT NULL,
    uid          TEXT NOT NULL,
    netns        TEXT NOT NULL,
    netns_id     TEXT NOT NULL,
    boot_id      TEXT NOT NULL,
    port         TEXT UNIQUE,
    host_offset  INTEGER,
    addresses    TEXT NOT NULL,
    delegate     TEXT NOT NULL,
    result       TEXT NOT NULL,
    PRIMARY KEY (container_id, ifname)
) WITHOUT ROWID;
CREATE INDEX attachment_pod ON attachment (namespace, pod);
"""
"""The table that `insert` and `select` are about, to be made once."""

_COLUMNS = (
    "container_id, ifname, state, network, namespace, pod, uid, netns, netns_id, boot_id, port,"
    " host_offset, addresses, delegate, result"
)


class State(enum.StrEnum):
    """Where an attachment stands."""

    ADDING = "adding"
    """An ADD is under way, or was when the agent died: whatever it made must go."""
    READY = "ready"
    """The ADD succeeded."""
    REMOVING = "removing"
    """It is being taken down; what is left of it is found by the port's name."""
    SUPERSEDED = "superseded"
    """A newer sandbox of the same pod took over. Holds nothing; waits for its DEL."""


@dataclass(frozen=True)
class Record:
    """One attachment."""

    attachment: Attachment
    state: State
    network: str
    pod: PodRef
    netns: str
    netns_id: str
    boot_id: str
    port: str | None = None
    offset: int | None = None
    addresses: tuple[str, ...] = ()
    delegate: Mapping[str, Any] = field(default_factory=dict)
    """What a delegated IPAM plugin needs to release the addresses; empty with our own."""
    result: Mapping[str, Any] = field(default_factory=dict)
    """The result that the ADD returned, in the newest version's form."""


def insert(db: sqlite3.Connection, record: Record) -> None:
    """Add a row for a record."""
    db.execute(
        f"INSERT INTO attachment ({_COLUMNS}) VALUES ({', '.join('?' * 15)})",
        (
            record.attachment.container_id,
            record.attachment.ifname,
            record.state,
            record.network,
            record.pod.namespace,
            record.pod.name,
            record.pod.uid,
            record.netns,
            record.netns_id,
            record.boot_id,
            record.port,
            record.offset,
            ",".join(record.addresses),
            json.dumps(record.delegate),
            json.dumps(record.result),
        ),
    )


def select(db: sqlite3.Connection, where: str, values: Sequence[str]) -> list[Record]:
    """The records of all rows that fulfil a condition, with a question mark for each value."""
    rows = db.execute(f"SELECT {_COLUMNS} FROM attachment WHERE {where}", values).fetchall()
    return [_of_row(row) for row in rows]


def _of_row(row: tuple[Any, ...]) -> Record:
    (container_id, ifname, state, network, namespace, pod, uid, netns, netns_id, boot_id) = row[:10]
    port, offset, addresses, delegate, result = row[10:]
    return Record(
        Attachment(container_id, ifname),
        State(state),
        network,
        PodRef(namespace, pod, uid),
        netns,
        netns_id,
        boot_id,
        port,
        offset,
        tuple(addresses.split(",")) if addresses else (),
        json.loads(delegate),
        json.loads(result),
    )
