"""What the agent must not forget: attachments, addresses, attempts. One SQLite file.

Every change of the node is preceded by its record and followed by the record's end, so whatever a
kill interrupts is on record. SQLite's write-ahead log with synchronous=NORMAL survives the death
of the process at any instant and stays consistent over a power loss, which may take back the last
commits; after one no pod of before is left, so nothing is lost that still stands for something.

Times are seconds of the wall clock, as they must mean the same after a restart.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path
from typing import Any

from ovsnet.cni.conf import Attachment, PodRef
from ovsnet.cni.ranges import Addresses, NodeRanges
from ovsnet.cni.record import TABLE, Record, State, insert, select
from ovsnet.names import PORT_NAME_VARIANTS, port_name

_SCHEMA_VERSION = 1
_OTHER_TABLES = """
CREATE TABLE address (
    address      BLOB PRIMARY KEY,
    container_id TEXT,
    ifname       TEXT,
    free_at      REAL
) WITHOUT ROWID;
CREATE INDEX address_holder ON address (container_id, ifname);
CREATE TABLE attempt (uid TEXT PRIMARY KEY, variant INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE cursor (ranges TEXT PRIMARY KEY, host_offset INTEGER NOT NULL) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Usage:
    """How full a node's ranges are."""

    used: int
    quarantined: int
    size: int


class RangeExhausted(Exception):  # noqa: N818  a state of the node, not a programming error
    """No address of the ranges is free and out of quarantine."""

    def __init__(self, ranges: NodeRanges, usage: Usage) -> None:
        super().__init__(
            f"no free address in the node's range {ranges.text}: of {usage.size},"
            f" {usage.used} are in use and {usage.quarantined} in quarantine"
        )


class AddressTaken(Exception):  # noqa: N818
    """An address that a delegated IPAM plugin gave belongs to another attachment."""


class PortNamesTaken(Exception):  # noqa: N818
    """Every name that the pod's port may have belongs to another pod."""


class Store:
    """The agent's records. Safe to use from many threads; every method is one transaction."""

    def __init__(self, path: Path, quarantine: float) -> None:
        """Open or make the file.

        Raises:
            sqlite3.Error: it is no database of this kind.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._quarantine = quarantine
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            self._db.executescript(
                f"BEGIN; {TABLE} {_OTHER_TABLES} PRAGMA user_version={_SCHEMA_VERSION}; COMMIT;"
            )
        elif version != _SCHEMA_VERSION:
            raise sqlite3.DatabaseError(
                f"{path} has version {version}; this agent knows version {_SCHEMA_VERSION}"
            )

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def begin(self, record: Record) -> Record:
        """Record that an ADD is under way, with a port name that no other attachment has.

        Raises:
            PortNamesTaken: all the pod's possible names belong to others.
        """
        with self._transaction() as db:
            row = db.execute(
                "SELECT variant FROM attempt WHERE uid = ?", (record.pod.uid,)
            ).fetchone()
            first = row[0] if row else 0
            for step in range(PORT_NAME_VARIANTS):
                variant = (first + step) % PORT_NAME_VARIANTS
                pod = record.pod
                port = port_name(pod.namespace, pod.name, pod.uid, variant)
                taken = db.execute("SELECT 1 FROM attachment WHERE port = ?", (port,)).fetchone()
                if not taken:
                    break
            else:
                raise PortNamesTaken
            begun = replace(record, state=State.ADDING, port=port)
            insert(db, begun)
            return begun

    def reserve(self, record: Record, ranges: NodeRanges, now: float) -> tuple[Record, Addresses]:
        """Give the attachment the next free host offset after the one given out last.

        Going round the range keeps an address unused for long, quarantine apart.

        Raises:
            RangeExhausted: there is none.
        """
        with self._transaction() as db:
            db.execute(
                "DELETE FROM address WHERE free_at <= ? OR free_at > ?",
                (now, now + self._quarantine),
            )
            row = db.execute(
                "SELECT host_offset FROM cursor WHERE ranges = ?", (ranges.text,)
            ).fetchone()
            last = row[0] if row else ranges.first - 1
            for step in range(1, ranges.size + 1):
                offset = ranges.first + (last - ranges.first + step) % ranges.size
                addresses = ranges.addresses(offset)
                if not _taken(db, addresses):
                    break
            else:
                raise RangeExhausted(ranges, self._usage(db, ranges, now))
            db.execute("INSERT OR REPLACE INTO cursor VALUES (?, ?)", (ranges.text, offset))
            return self._hold(db, record, addresses), addresses

    def hold(self, record: Record, addresses: Addresses) -> Record:
        """Note the addresses that a delegated IPAM plugin gave to the attachment.

        When an address may be used again is that plugin's decision: quarantine does not count.

        Raises:
            AddressTaken: another attachment has one of them.
        """
        with self._transaction() as db:
            for address in (addresses.ipv4, addresses.ipv6):
                if address is not None:
                    db.execute(
                        "DELETE FROM address WHERE address = ? AND container_id IS NULL",
                        (address.packed,),
                    )
            if _taken(db, addresses):
                raise AddressTaken(f"{addresses.text} belongs to another attachment of this node")
            return self._hold(db, record, addresses)

    def _hold(self, db: sqlite3.Connection, record: Record, addresses: Addresses) -> Record:
        texts = tuple(str(a) for a in (addresses.ipv4, addresses.ipv6) if a is not None)
        attachment = record.attachment
        db.executemany(
            "INSERT INTO address VALUES (?, ?, ?, NULL)",
            [(ip_address(t).packed, attachment.container_id, attachment.ifname) for t in texts],
        )
        db.execute(
            "UPDATE attachment SET host_offset = ?, addresses = ?"
            " WHERE container_id = ? AND ifname = ?",
            (addresses.offset, ",".join(texts), attachment.container_id, attachment.ifname),
        )
        return replace(record, offset=addresses.offset, addresses=texts)

    def adopt(self, record: Record) -> None:
        """Take in an attachment that the switch knows and this file does not."""
        with self._transaction() as db:
            insert(db, record)
            db.executemany(
                "INSERT OR REPLACE INTO address VALUES (?, ?, ?, NULL)",
                [
                    (ip_address(a).packed, record.attachment.container_id, record.attachment.ifname)
                    for a in record.addresses
                ],
            )

    def delegate(self, attachment: Attachment, delegate: Mapping[str, Any]) -> None:
        """Note, before it is asked, which IPAM plugin will have to release the addresses."""
        self._update(attachment, "delegate", json.dumps(delegate))

    def complete(self, attachment: Attachment, result: Mapping[str, Any]) -> None:
        """The ADD succeeded with this result; earlier attempts for the pod are forgotten."""
        with self._transaction() as db:
            db.execute(
                "UPDATE attachment SET state = ?, result = ? WHERE container_id = ? AND ifname = ?",
                (State.READY, json.dumps(result), attachment.container_id, attachment.ifname),
            )
            db.execute(
                "DELETE FROM attempt WHERE uid = (SELECT uid FROM attachment"
                " WHERE container_id = ? AND ifname = ?)",
                (attachment.container_id, attachment.ifname),
            )

    def removing(self, attachment: Attachment) -> None:
        """The attachment is being taken down."""
        self._update(attachment, "state", State.REMOVING)

    def end(self, attachment: Attachment, now: float, *, superseded: bool = False) -> None:
        """Nothing of the attachment is left: its addresses go into quarantine, its record ends.

        A superseded one leaves a record that holds nothing, so that it cannot come back.
        """
        key = (attachment.container_id, attachment.ifname)
        with self._transaction() as db:
            db.execute(
                "UPDATE address SET container_id = NULL, ifname = NULL, free_at = ?"
                " WHERE container_id = ? AND ifname = ?",
                (now + self._quarantine, *key),
            )
            if superseded:
                db.execute(
                    "UPDATE attachment SET state = ?, port = NULL, host_offset = NULL,"
                    " addresses = '', delegate = '{}', result = '{}'"
                    " WHERE container_id = ? AND ifname = ?",
                    (State.SUPERSEDED, *key),
                )
            else:
                db.execute("DELETE FROM attachment WHERE container_id = ? AND ifname = ?", key)

    def failed_attempt(self, pod: PodRef) -> None:
        """The datapath never answered on the pod's port: the next attempt uses the next name."""
        with self._transaction() as db:
            db.execute(
                "INSERT INTO attempt VALUES (?, 1)"
                " ON CONFLICT (uid) DO UPDATE SET variant = (variant + 1) % ?",
                (pod.uid, PORT_NAME_VARIANTS),
            )

    def get(self, attachment: Attachment) -> Record | None:
        """The record of an attachment."""
        found = self._select(
            "container_id = ? AND ifname = ?", attachment.container_id, attachment.ifname
        )
        return found[0] if found else None

    def of_container(self, container_id: str) -> list[Record]:
        """All attachments of a container."""
        return self._select("container_id = ?", container_id)

    def of_pod(self, pod: PodRef) -> list[Record]:
        """All attachments of pods of this name, whatever their uid."""
        return self._select("namespace = ? AND pod = ?", pod.namespace, pod.name)

    def all(self) -> list[Record]:
        """Every record."""
        return self._select("1")

    def usage(self, ranges: NodeRanges, now: float) -> Usage:
        """How many addresses of the ranges are in use and in quarantine."""
        with self._lock:
            return self._usage(self._db, ranges, now)

    def _usage(self, db: sqlite3.Connection, ranges: NodeRanges, now: float) -> Usage:
        network: IPv4Network | IPv6Network | None = ranges.ipv4 or ranges.ipv6
        assert network is not None
        bounds = (network.network_address.packed, network.broadcast_address.packed)
        length = len(bounds[0])
        used, quarantined = db.execute(
            "SELECT COUNT(container_id), COUNT(CASE WHEN free_at > ? THEN 1 END) FROM address"
            " WHERE address BETWEEN ? AND ? AND length(address) = ?",
            (now, *bounds, length),
        ).fetchone()
        return Usage(used, quarantined, ranges.size)

    def _update(self, attachment: Attachment, column: str, value: str) -> None:
        with self._transaction() as db:
            db.execute(
                f"UPDATE attachment SET {column} = ? WHERE container_id = ? AND ifname = ?",
                (value, attachment.container_id, attachment.ifname),
            )

    def _select(self, where: str, *values: str) -> list[Record]:
        with self._lock:
            return select(self._db, where, values)


def _taken(db: sqlite3.Connection, addresses: Addresses) -> bool:
    packed = [a.packed for a in (addresses.ipv4, addresses.ipv6) if a is not None]
    marks = ", ".join("?" * len(packed))
    query = f"SELECT 1 FROM address WHERE address IN ({marks})"
    return db.execute(query, packed).fetchone() is not None
