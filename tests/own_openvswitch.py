"""The program that runs Open vSwitch for a host that has none, for tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from slowness import SLOW

from ovsnet.sandbox.openvswitch import inside


class Program:
    """The program in a network namespace, with directories of its own."""

    def __init__(self, netns: str, directory: Path) -> None:
        self.netns = netns
        self.rundir = directory / "run"
        self.database = directory / "db" / "conf.db"
        self.host_database = directory / "etc" / "conf.db"
        self.log = directory / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [
            *(sys.executable, "-m", "ovsnet.cni.openvswitch", "--rundir", str(self.rundir)),
            *("--database", str(self.database), "--host-database", str(self.host_database)),
        ]
        environment = os.environ | {"OVS_RUNDIR": str(self.rundir)}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                inside(self.netns, command), env=environment, stdout=log, stderr=log
            )

    def wait(self, text: str) -> None:
        until = time.monotonic() + 60 * SLOW
        while text not in self.log.read_text():
            assert time.monotonic() < until, self.log.read_text()
            time.sleep(0.05)

    def wait_until_up(self) -> None:
        until = time.monotonic() + 60 * SLOW
        while not self.rundir.joinpath("ovs-vswitchd.pid").exists() or not self.vsctl("show"):
            assert time.monotonic() < until, self.log.read_text()
            time.sleep(0.05)

    def vsctl(self, *command: str) -> str:
        vsctl = ["ovs-vsctl", f"--db=unix:{self.rundir}/db.sock", "--timeout=20", *command]
        return subprocess.run(vsctl, capture_output=True, text=True, check=False).stdout

    def management_socket(self, bridge: str) -> Path:
        """The socket on which a bridge speaks OpenFlow to local tools."""
        return self.rundir / f"{bridge}.mgmt"

    def pids(self) -> list[int]:
        return [
            int((self.rundir / f"{n}.pid").read_text()) for n in ("ovsdb-server", "ovs-vswitchd")
        ]

    def ended(self) -> int:
        assert self._process is not None
        return self._process.wait(60 * SLOW)

    def stop(self) -> int:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self.ended()

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.stop()
