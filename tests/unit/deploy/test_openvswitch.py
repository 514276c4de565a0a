"""The database of the Open vSwitch that comes with the network, and when that stands by."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from ovsnet.cni import openvswitch
from ovsnet.cni.openvswitch import StartError, answers, prepare, runs, stand_by, version


def run(command: Sequence[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def columns(database: Path) -> set[str]:
    """Those of its one table with one row. A database's first record is its schema (ovsdb(5))."""
    schema = json.loads(database.read_text().splitlines()[1])
    return set(schema["tables"]["Open_vSwitch"]["columns"])


def test_a_database_is_made_where_there_is_none(tmp_path: Path) -> None:
    database = tmp_path / "conf.db"
    prepare(database, run)
    made = database.read_bytes()
    assert columns(database) == set(
        json.loads(openvswitch.SCHEMA.read_text())["tables"]["Open_vSwitch"]["columns"]
    )
    prepare(database, run)
    assert database.read_bytes() == made
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == [
        "conf.db"
    ]


def test_what_an_interrupted_start_left_is_not_taken_for_a_database(tmp_path: Path) -> None:
    (tmp_path / "conf.new").write_text("OVSDB JSON 12")
    prepare(tmp_path / "conf.db", run)
    assert columns(tmp_path / "conf.db")
    assert not (tmp_path / "conf.new").exists()


def test_if_making_it_fails_there_is_none(tmp_path: Path) -> None:
    def failing(command: Sequence[str]) -> str:
        Path(command[2]).write_text("half")
        raise StartError("no space left on device")

    with pytest.raises(StartError):
        prepare(tmp_path / "conf.db", failing)
    assert not (tmp_path / "conf.db").exists()


def test_another_versions_database_is_converted_and_keeps_its_content(tmp_path: Path) -> None:
    schema = json.loads(openvswitch.SCHEMA.read_text())
    schema["version"] = "8.0.0"
    del schema["tables"]["Open_vSwitch"]["columns"]["dpdk_version"]
    older, database = tmp_path / "older.ovsschema", tmp_path / "conf.db"
    older.write_text(json.dumps(schema))
    run(["ovsdb-tool", "create", str(database), str(older)])
    row = {"op": "insert", "table": "Open_vSwitch", "row": {"system_type": "kept"}}
    run(["ovsdb-tool", "transact", str(database), json.dumps(["Open_vSwitch", row])])
    assert "dpdk_version" not in columns(database)
    prepare(database, run)
    assert "dpdk_version" in columns(database)
    query = {"op": "select", "table": "Open_vSwitch", "where": [], "columns": ["system_type"]}
    said = run(["ovsdb-tool", "query", str(database), json.dumps(["Open_vSwitch", query])])
    assert json.loads(said)[0]["rows"] == [{"system_type": "kept"}]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("ovs-vswitchd (Open vSwitch) 3.1.0\n", "3.1.0"),
        ("ovs-vswitchd (Open vSwitch) 3.5.1-rc2\nDPDK 24.11.1\n", "3.5.1-rc2"),
        ("", ""),
        ("command not found", ""),
    ],
)
def test_the_version_is_found_in_what_the_switch_says(said: str, expected: str) -> None:
    assert version(said) == expected


def test_only_one_who_listens_answers(tmp_path: Path) -> None:
    path = tmp_path / "db.sock"
    assert not answers(path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        assert not answers(path)
        listener.listen()
        assert answers(path)
    # A killed server leaves its socket.
    assert path.exists()
    assert not answers(path)


@pytest.mark.parametrize("name", ["db.sock", openvswitch.OWN_SOCKET])
def test_one_that_is_ending_or_starting_runs_too(tmp_path: Path, name: str) -> None:
    assert not runs(tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / name))
        listener.listen()
        assert runs(tmp_path)
    assert not runs(tmp_path)


class Host:
    """A host whose Open vSwitch is (present, running) as said, one moment after the other."""

    def __init__(self, *moments: tuple[bool, bool]) -> None:
        self._moments: Iterator[tuple[bool, bool]] = iter(moments)
        self.present, self.running = next(self._moments)

    def wait(self) -> bool:
        """Go on; True, as when told to end, after the last moment."""
        moment = next(self._moments, None)
        if moment is not None:
            self.present, self.running = moment
        return moment is None

    def ours(self) -> bool:
        return stand_by(lambda: self.present, lambda: self.running, self.wait)


def test_ours_comes_only_where_no_other_is() -> None:
    assert Host((False, False)).ours()
    assert not Host((True, True)).ours()
    assert not Host((True, False)).ours(), "it is installed, and somebody has to start it"
    assert not Host((False, True)).ours()


def test_ours_comes_when_the_hosts_is_gone() -> None:
    assert not Host((True, True), (True, False), (True, True)).ours()
    assert not Host((False, True), (True, True)).ours()
    assert Host((True, True), (False, True), (False, False)).ours()
