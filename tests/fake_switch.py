"""A switch in memory, as far as a session can see: bundles, flow dumps, counts, roles.

It reads the bytes that a session sends with a parser of its own and answers with events, one at a
time, when the test lets it. It keeps flows and groups by their bytes and knows nothing of our
values. As Open vSwitch does, it refuses a flow that names a group that it does not have, and
deletes with a group the flows that name it.
"""

from __future__ import annotations

import struct
from collections import Counter, deque
from collections.abc import Iterator
from typing import NamedTuple

from ovsnet.controller.openflow.events import (
    BundleAnswered,
    Connected,
    Echoed,
    Event,
    FlowsCounted,
    FlowsListed,
    Refused,
    RoleGranted,
    RoleLost,
)
from ovsnet.controller.openflow.protocol import (
    BUNDLES_CAPABILITY,
    NO_MASTER,
    BundleControl,
    ControllerRole,
)
from ovsnet.flows.learnt import LEARNT_COOKIE
from ovsnet.names import Table, datapath_id

RawKey = tuple[int, int, bytes]
_BUNDLE_FAILED, _MESSAGE_FAILED = 17, 13
_BAD_OUT_GROUP, _OUT_OF_GROUPS = (2, 9), (6, 3)
_FLOW_MOD, _GROUP_MOD, _ADD_OR_MODIFY = 14, 15, 0x8000
_APPLY_ACTIONS, _GROUP = 4, 22
_PER_PART = 3
_TABLES = 254


class RawFlow(NamedTuple):
    cookie: int
    instructions: bytes
    idle: int = 0


class FakeSwitch:
    """`refuse`: cookies of flows that it will not have, when they are added to a bundle, and
    `refuse_late`, when the bundle is committed. `refuse_groups`: it will have no group.
    `newest`: the greatest generation id it has seen. `role`: what its only controller is to it.
    `packets`: what it has counted for a flow.
    """

    def __init__(self, node: str = "node-1") -> None:
        self.node = node
        self.connection = 1
        self.flows: dict[RawKey, RawFlow] = {}
        self.packets: dict[RawKey, int] = {}
        self.groups: dict[int, bytes] = {}
        self.group_writes: list[int] = []
        self.writes = 0
        self.commits: list[dict[RawKey, RawFlow]] = []
        self.refuse: set[int] = set()
        self.refuse_late: set[int] = set()
        self.refuse_groups = False
        self.newest = 2**64 - 1
        self.role = ControllerRole.EQUAL
        self.answers: deque[Event] = deque()
        self._bundle: list[bytes] | None = None
        self._closed = False

    @property
    def content(self) -> dict[RawKey, RawFlow]:
        """The flows that it was given, but for the number that every stamp bears."""
        given = {k: f for k, f in self.flows.items() if f.cookie != LEARNT_COOKIE}
        return without_serials(given)

    def learn(self, number: int) -> None:
        """As a flow that was given does when a packet meets it."""
        match = struct.pack("!HHII4x", 1, 12, 0x00010804, number)
        self.flows[(Table.AFFINITY, 100, match)] = RawFlow(LEARNT_COOKIE, b"", idle=10800)

    def forget(self) -> None:
        """As when no client has come back for long."""
        for key in [key for key in self.flows if key[0] == Table.AFFINITY]:
            del self.flows[key]

    def connected(self, **changes: object) -> Connected:
        introduction: dict[str, object] = {
            "connection": self.connection,
            "address": "192.0.2.1:40000",
            "datapath_id": datapath_id(self.node),
            "description": self.node,
            "tables": _TABLES,
            "capabilities": BUNDLES_CAPABILITY,
            "ports": frozenset(),
        }
        return Connected(**(introduction | changes))  # type: ignore[arg-type]

    def reconnect(self) -> Connected:
        """The old connection is gone, and with it what was half done on it."""
        self.connection += 1
        self.role = ControllerRole.EQUAL
        self.answers.clear()
        self._bundle = None
        return self.connected()

    def led_by_another(self, generation: int) -> None:
        """Another controller becomes master under this generation id."""
        self.newest = generation
        if self.role is ControllerRole.MASTER:
            self.role = ControllerRole.SLAVE
            self.answers.append(RoleLost(self.connection, self.role))

    def receive(self, data: bytes) -> None:
        while data:
            version, kind, length, xid = struct.unpack_from("!BBHI", data)
            assert version == 6
            assert 8 <= length <= len(data)
            self._message(kind, xid, data[:length])
            data = data[length:]

    def _message(self, kind: int, xid: int, data: bytes) -> None:
        match kind:
            case 2:
                self.answers.append(Echoed(self.connection, xid))
            case 24:
                role, generation = struct.unpack_from("!I4xQ", data, 8)
                if role != ControllerRole.NOCHANGE:
                    if 0 < (self.newest - generation) % 2**64 < 2**63:
                        self._refuse(xid, 11, 0, data)
                        return
                    self.newest = generation
                    self.role = ControllerRole(role)
                self.answers.append(RoleGranted(self.connection, xid, self.role, self.newest))
            case 18:
                self._multipart(xid, data)
            case 33 | 34 if self.role is ControllerRole.SLAVE:
                self._refuse(xid, *NO_MASTER, data)
            case 33:
                self._control(xid, BundleControl(struct.unpack_from("!H", data, 12)[0]), data)
            case 34:
                self._add(xid, data)
            case _:
                raise AssertionError(f"unexpected message {data.hex()}")

    def _multipart(self, xid: int, data: bytes) -> None:
        kind = struct.unpack_from("!H", data, 8)[0]
        if kind == 3:
            counts = Counter(key[0] for key in self.flows)
            body = b"".join(struct.pack("!B3xI16x", n, counts[n]) for n in range(_TABLES))
            self.answers.append(FlowsCounted(self.connection, xid, body))
            return
        assert kind == 1
        table = data[16]
        flows = {k: f for k, f in self.flows.items() if table in (0xFF, k[0])}
        entries = [
            description(key, flow, packets=self.packets.get(key, 0)) for key, flow in flows.items()
        ]
        parts = [entries[i : i + _PER_PART] for i in range(0, len(entries), _PER_PART)] or [[]]
        for i, part in enumerate(parts, 1):
            body = b"".join(part)
            self.answers.append(FlowsListed(self.connection, xid, body, more=i < len(parts)))

    def _control(self, xid: int, control: BundleControl, data: bytes) -> None:
        assert struct.unpack_from("!I2xH", data, 8) == (1, 3), "ordered and atomic"
        if control is BundleControl.OPEN_REQUEST:
            assert self._bundle is None, "two bundles at a time"
            self._bundle, self._closed = [], False
        elif self._bundle is None:
            self._refuse(xid, _BUNDLE_FAILED, 2, data)
            return
        elif control is BundleControl.CLOSE_REQUEST:
            self._closed = True
        elif control is BundleControl.DISCARD_REQUEST:
            self._bundle = None
        else:
            assert control is BundleControl.COMMIT_REQUEST
            assert self._closed
            messages, self._bundle = self._bundle, None
            groups = set(self.groups)
            for message in messages:
                if message[1] == _GROUP_MOD:
                    groups.add(_group_of(message))
                    continue
                if not _groups_named(_instructions(message)) <= groups:
                    self._refuse(1, *_BAD_OUT_GROUP, message)
                    self._refuse(xid, _BUNDLE_FAILED, _MESSAGE_FAILED, data)
                    return
                if cookie_of(message) in self.refuse_late:
                    self._refuse(1, 2, 9, message)
                    self._refuse(xid, _BUNDLE_FAILED, _MESSAGE_FAILED, data)
                    return
            for message in messages:
                self._apply(message)
            self.commits.append(self.content)
        self.answers.append(BundleAnswered(self.connection, xid, BundleControl(control + 1)))

    def _add(self, xid: int, data: bytes) -> None:
        inner = data[16:]
        assert struct.unpack_from("!I2xH", data, 8) == (1, 3), "ordered and atomic"
        assert self._bundle is not None
        assert struct.unpack_from("!I", inner, 4)[0] == xid == 1
        assert inner[1] in (_FLOW_MOD, _GROUP_MOD)
        if inner[1] == _GROUP_MOD and self.refuse_groups:
            self._refuse(xid, *_OUT_OF_GROUPS, data)
        elif inner[1] == _FLOW_MOD and cookie_of(inner) in self.refuse:
            self._refuse(xid, 4, 9, data)
        else:
            self._bundle.append(inner)

    def delete_groups(self) -> None:
        """As by hand, with `ovs-ofctl del-groups`."""
        self.groups.clear()
        for key, flow in list(self.flows.items()):
            if _groups_named(flow.instructions):
                del self.flows[key]

    def _apply(self, message: bytes) -> None:
        if message[1] == _GROUP_MOD:
            assert struct.unpack_from("!H", message, 8)[0] == _ADD_OR_MODIFY
            self.groups[_group_of(message)] = message
            self.group_writes.append(_group_of(message))
            return
        table, command = message[24], message[25]
        priority = struct.unpack_from("!H", message, 30)[0]
        instructions = _instructions(message)
        key = (table, priority, message[48 : len(message) - len(instructions)])
        self.writes += 1
        if command == 0:
            self.flows[key] = RawFlow(cookie_of(message), instructions)
        else:
            assert command == 4
            self.flows.pop(key, None)
            self.packets.pop(key, None)

    def _refuse(self, xid: int, kind: int, code: int, data: bytes) -> None:
        text = f"error {kind}/{code}"
        self.answers.append(Refused(self.connection, xid, kind, code, text, data[:64]))


def _instructions(flow_mod: bytes) -> bytes:
    match_length = struct.unpack_from("!H", flow_mod, 50)[0]
    return flow_mod[48 + -(-match_length // 8) * 8 :]


def _group_of(group_mod: bytes) -> int:
    return int(struct.unpack_from("!I", group_mod, 12)[0])


def _groups_named(instructions: bytes) -> set[int]:
    """The groups that stand in apply-actions."""
    found = set()
    for kind, instruction in _items(instructions, 0):
        if kind == _APPLY_ACTIONS:
            for action, data in _items(instruction, 8):
                if action == _GROUP:
                    found.add(int(struct.unpack_from("!I", data, 4)[0]))
    return found


def _items(data: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    while at < len(data):
        kind, length = struct.unpack_from("!HH", data, at)
        yield kind, data[at : at + length]
        at += length


def cookie_of(flow_mod: bytes) -> int:
    return int(struct.unpack_from("!Q", flow_mod, 8)[0])


def without_serials(flows: dict[RawKey, RawFlow]) -> dict[RawKey, RawFlow]:
    return {k: RawFlow(f.cookie, b"") if k[0] == Table.STAMP else f for k, f in flows.items()}


def description(
    key: RawKey, flow: RawFlow, *, idle: int = 0, seconds: int = 1, packets: int = 0
) -> bytes:
    """A flow as a dump has it (ofp_flow_desc), with the statistics that Open vSwitch sends."""
    table, priority, match = key
    stats = struct.pack(
        "!HHHBBII HBBQ HBBQ",
        *(0, 40, 0x8002, 0 << 1, 8, seconds, 0),
        *(0x8002, 4 << 1, 8, packets),
        *(0x8002, 5 << 1, 8, packets * 100),
    )
    idle = idle or flow.idle
    fixed = struct.pack("!BxHHHHHQ", table, priority, idle, 0, 0, 0, flow.cookie)
    body = fixed + match + stats + flow.instructions
    return struct.pack("!HH", len(body) + 4, 0) + body
