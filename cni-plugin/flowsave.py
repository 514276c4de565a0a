"""The flows of a switch, from the end of its programs until they have been started anew.

ovs-vswitchd has its flows in memory alone. When it is told to end they are written down, and it has
them again before anybody else speaks to it: what a controller has once allowed goes on, also while
no controller can be reached. It gets all that the last controller wrote, or nothing:

- Controllers are *parked* from before the dump until the flows are back: their targets are
  exchanged for a socket where nobody listens. So none writes what the save lacks, and none compares
  what is half restored. Open vSwitch's own way, `flow-restore-wait` (ovs-vswitchd.conf.db(5)), is
  for bridges without controllers: it keeps them away, and 3.1 forgets a bridge's flows when the
  first one comes.
- One atomic bundle brings back a bridge's flows and groups. Flows that the switch has learnt come
  with them, their time of idleness anew.
- A save is for one start. It must be whole, no port may have another number than it had or that of
  another, and all controllers must be parked still, or else it is not used and a controller has to
  come. Of a port that is gone, flows do no harm: a pod that gets its number later does not run
  before a controller has been there.

A daemon that is killed or crashes leaves no save, and the one before is gone by then.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from ovsnet.cni import install
from ovsnet.cni.ovsdb import Database, Operation, map_of, ovs_map, values_of

Run = Callable[[Sequence[str], str], str]
"""Runs a command with a standard input, and returns what it prints."""
Change = Callable[[Sequence[Operation]], None]
"""Carries out a transaction, and returns when the switch has followed."""

_Row = Mapping[str, Any]

Ports = dict[str, dict[str, int]]
"""The OpenFlow numbers of ports, by the names of bridge and port. Bridges number for themselves."""

_TARGET = "ovsnet-target"
"""Where the row of a parked controller has its target, in `external_ids`."""
_DUMP_SECONDS = 4
_RESTORE_SECONDS = 30


class UnfitError(Exception):
    """What was saved cannot be used. The text says why."""


class Saved(msgspec.Struct, frozen=True):
    """The OpenFlow numbers of the ports of every bridge by name, and for every bridge that has
    controllers what `ovs-ofctl bundle` reads (ovs-ofctl(8), "bundle").
    """

    ports: Ports
    bundles: dict[str, str]


def park(rundir: Path, bridges: Sequence[_Row], controllers: Sequence[_Row]) -> list[Operation]:
    """What lets these controllers go, and keeps others from coming.

    Open vSwitch takes a bridge's controllers for present as long as there are targets. Of sockets
    it connects to this one alone, and nobody has it.
    """
    names = {uuid[1]: row["name"] for row in bridges for uuid in values_of(row["controller"])}
    return [
        _update(
            row,
            f"unix:{rundir / names[row['_uuid'][1]]}.controller",
            map_of(row["external_ids"]) | {_TARGET: row["target"]},
        )
        for row in controllers
        if not _is_parked(row)
    ]


def unpark(controllers: Sequence[_Row]) -> list[Operation]:
    """What lets parked controllers come again."""
    operations = []
    for row in filter(_is_parked, controllers):
        ids = map_of(row["external_ids"])
        operations.append(_update(row, ids.pop(_TARGET), ids))
    return operations


def _is_parked(controller: _Row) -> bool:
    return _TARGET in map_of(controller["external_ids"])


def _update(controller: _Row, target: str, external_ids: Mapping[str, str]) -> Operation:
    where = [["_uuid", "==", controller["_uuid"]]]
    columns = {"target": target, "external_ids": ovs_map(external_ids)}
    return {"op": "update", "table": "Controller", "where": where, "row": columns}


def bundle(groups: str, flows: str) -> str:
    """A bundle of what `ovs-ofctl dump-groups` and `dump-flows` have printed. Flows lead to groups,
    so these come first.
    """
    parts = (("group", groups), ("flow", flows))
    return "".join(
        f"{kind} add {line.strip()}\n"
        for kind, printed in parts
        for line in printed.splitlines()
        # What comes from the switch is indented, what ovs-ofctl says of it is not.
        if line.startswith(" ")
    )


def write(path: Path, saved: Saved) -> None:
    """Write it down, for `take`."""
    text = msgspec.json.encode(saved).decode()
    install.write(path, f"{_digest(text)}\n{text}", 0o600)


def take(path: Path) -> Saved | None:
    """What is written there, which is gone then; None if nothing is.

    Raises:
        UnfitError: it is damaged.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    path.unlink()
    try:
        digest, _, text = data.decode().partition("\n")
        if digest == _digest(text):
            return msgspec.json.decode(text, type=Saved)
    except (UnicodeDecodeError, msgspec.DecodeError):
        pass
    raise UnfitError(f"{path} is damaged")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def check(saved: Saved, ports: Ports, controllers: Sequence[_Row]) -> None:
    """See that what was saved is for a switch with these ports and controllers.

    Raises:
        UnfitError: it is not.
    """
    for bridge, present in ports.items():
        former = saved.ports.get(bridge, {})
        names = {number: name for name, number in former.items()}
        for name, number in present.items():
            if former.get(name, number) != number or names.get(number, name) != name:
                raise UnfitError(
                    f"the port {name} of {bridge} has another number ({number}) than before"
                )
    if not all(map(_is_parked, controllers)):
        raise UnfitError("a controller may have written something since")


def save(path: Path, database: Database, change: Change, rundir: Path, run: Run) -> None:
    """Park the controllers, and write down what they have written. Flows stay as they are.

    Raises whatever `database`, `change` and `run` do; nothing is written down then.
    """
    bridges = database.select("Bridge", ["name", "controller"])
    change(park(rundir, bridges, _controllers(database)))
    programmed = [row["name"] for row in bridges if values_of(row["controller"])]
    write(
        path,
        Saved(_ports(database), {name: _dump(rundir / f"{name}.mgmt", run) for name in programmed}),
    )


def restore(path: Path, database: Database, rundir: Path, run: Run) -> bool:
    """Give the switch what was saved. Controllers stay parked. False if nothing was saved.

    Raises:
        UnfitError: what was saved cannot be used.

    and whatever `database` and `run` do.
    """
    saved = take(path)
    if saved is None:
        return False
    check(saved, _ports(database), _controllers(database))
    for bridge, text in saved.bundles.items():
        run(_ofctl(rundir / f"{bridge}.mgmt", _RESTORE_SECONDS, "bundle", "-"), text)
    return True


def unpark_all(database: Database, change: Change) -> None:
    """Let all parked controllers come again. Raises whatever `database` and `change` do."""
    operations = unpark(_controllers(database))
    if operations:
        change(operations)


def _controllers(database: Database) -> list[dict[str, Any]]:
    return database.select("Controller", ["_uuid", "target", "external_ids"])


def _ports(database: Database) -> Ports:
    """The numbers of all ports that have one."""
    rows = database.select("Interface", ["_uuid", "name", "ofport"])
    found = {row["_uuid"][1]: (row["name"], values_of(row["ofport"])) for row in rows}
    interfaces = {
        row["_uuid"][1]: [found[uuid[1]] for uuid in values_of(row["interfaces"])]
        for row in database.select("Port", ["_uuid", "interfaces"])
    }
    return {
        row["name"]: {
            name: numbers[0]
            for uuid in values_of(row["ports"])
            for name, numbers in interfaces[uuid[1]]
            if numbers and numbers[0] > 0
        }
        for row in database.select("Bridge", ["name", "ports"])
    }


def _dump(socket: Path, run: Run) -> str:
    groups = run(_ofctl(socket, _DUMP_SECONDS, "dump-groups"), "")
    flows = _ofctl(socket, _DUMP_SECONDS, "dump-flows", "--no-names", "--no-stats")
    return bundle(groups, run(flows, ""))


def _ofctl(socket: Path, seconds: int, command: str, *arguments: str) -> list[str]:
    # Open vSwitch's options may stand anywhere.
    ofctl = ["ovs-ofctl", "-O", "OpenFlow15", f"--timeout={seconds}"]
    return [*ofctl, command, f"unix:{socket}", *arguments]
