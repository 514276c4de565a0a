"""Open vSwitch as the network brings it to hosts that have none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from own_openvswitch import Program
from slowness import SLOW

from ovsnet.cni.config import Config
from ovsnet.cni.openvswitch import answers, version
from ovsnet.cni.trail import Places, TrailKeeper
from ovsnet.sandbox.openvswitch import OpenVSwitch, inside


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_it_runs_keeps_its_database_and_ends(program: Program) -> None:
    program.start()
    program.wait_until_up()
    program.vsctl("add-br", "br-kept", "--", "set", "bridge", "br-kept", "datapath_type=netdev")
    assert version(program.vsctl("get", "Open_vSwitch", ".", "ovs_version"))
    pids = program.pids()
    assert program.stop() == 0
    assert not any(alive(pid) for pid in pids)
    assert not answers(program.rundir / "db.sock")
    program.start()
    program.wait_until_up()
    assert program.vsctl("list-br") == "br-kept\n"


@pytest.mark.parametrize("which", [0, 1])
def test_if_one_program_ends_both_do_to_be_started_anew(program: Program, which: int) -> None:
    program.start()
    program.wait_until_up()
    pids = program.pids()
    os.kill(pids[which], signal.SIGKILL)
    assert program.ended() == 1
    assert not any(alive(pid) for pid in pids)
    # What a killed one leaves does not keep the next from running.
    program.start()
    program.wait_until_up()
    assert program.pids() != pids


def test_it_runs_nothing_beside_the_hosts_own(program: Program, tmp_path: Path) -> None:
    with OpenVSwitch(program.netns, program.rundir) as hosts:
        program.start()
        program.wait("the host runs its own Open vSwitch")
        assert not program.database.exists()
        assert program.stop() == 0
        assert hosts.vsctl("list-br") == ""
        program.start()
        program.wait("the host runs its own Open vSwitch")
    # The host's is gone, and was never installed: its own comes.
    program.wait("starting")
    program.wait_until_up()
    assert program.database.exists()


def test_it_waits_for_the_hosts_own_that_is_installed(program: Program) -> None:
    program.host_database.parent.mkdir()
    program.host_database.touch()
    program.start()
    program.wait("which does not run")
    with OpenVSwitch(program.netns, program.rundir):
        program.wait("the host runs its own Open vSwitch")
    assert program.stop() == 0
    assert not program.database.exists()


class Uninstalling:
    """The program that takes everything from the node of `program`, and stays until it is ended."""

    def __init__(self, program: Program, directory: Path) -> None:
        self.state = directory / "state"
        self.done = directory / "done"
        self._told = False
        config = Config(
            cni_conf_dir=str(directory / "net.d"),
            cni_bin_dir=str(directory / "bin"),
            socket=str(directory / "run-agent" / "agent.sock"),
            ovsdb=str(program.rundir / "db.sock"),
            ovs_rundir=str(program.rundir),
        )
        TrailKeeper(self.state, Places.of(config), "this boot")
        command = [
            *(sys.executable, "-m", "ovsnet.cni.uninstall"),
            *("--state-dir", str(self.state), "--stay", str(self.done)),
        ]
        self._process = subprocess.Popen(inside(program.netns, command), stderr=subprocess.PIPE)

    def wait(self) -> None:
        until = time.monotonic() + 60 * SLOW
        while not self.done.exists():
            assert self._process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.05)

    def end(self) -> None:
        """Tell it, once: the interpreter itself may be ending already."""
        if not self._told:
            self._process.send_signal(signal.SIGTERM)
        self._told = True

    def close(self) -> tuple[int, bytes]:
        self.end()
        _, said = self._process.communicate(timeout=60 * SLOW)
        return self._process.returncode, said


def test_uninstalling_waits_for_its_end_and_takes_its_files(
    program: Program, tmp_path: Path
) -> None:
    program.database = tmp_path / "state" / "openvswitch" / "conf.db"
    program.start()
    program.wait_until_up()
    pids = program.pids()
    uninstalling = Uninstalling(program, tmp_path)
    try:
        uninstalling.wait()
        assert all(alive(pid) for pid in pids)
        assert sorted(path.name for path in uninstalling.state.iterdir()) == ["openvswitch"]
        uninstalling.end()
        # Time enough to take away what must stay.
        time.sleep(2)
        assert program.database.exists()
        assert answers(program.rundir / "db.sock")
        assert program.stop() == 0
    finally:
        status, said = uninstalling.close()
    assert status == 0, said
    assert not uninstalling.state.exists()
    assert not program.rundir.exists()


def test_uninstalling_leaves_the_hosts_own(program: Program, tmp_path: Path) -> None:
    with OpenVSwitch(program.netns, program.rundir) as hosts:
        program.database = tmp_path / "state" / "openvswitch" / "conf.db"
        program.database.parent.mkdir(parents=True)
        program.start()
        program.wait("the host runs its own Open vSwitch")
        files = sorted(program.rundir.iterdir())
        uninstalling = Uninstalling(program, tmp_path)
        try:
            uninstalling.wait()
            uninstalling.end()
            assert program.stop() == 0
        finally:
            status, said = uninstalling.close()
        assert status == 0, said
        assert not uninstalling.state.exists()
        assert sorted(program.rundir.iterdir()) == files
        assert hosts.vsctl("list-br") == ""
