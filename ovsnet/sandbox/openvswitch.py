"""An Open vSwitch of its own in a network namespace: database server, switch daemon, commands.

Every instance has its own directory (database, control sockets, logs), so any number of them run
side by side on one machine. The two processes are children that die with the thread that started
them, for the kernel's parent-death signal counts threads: start them from one that stays.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

SCHEMA = Path("/usr/share/openvswitch/vswitch.ovsschema")
NETNS_DIRECTORY = Path("/run/netns")
_SHARED_RUNDIR = Path("/var/run/openvswitch")
_PR_SET_PDEATHSIG = 1
_START_SECONDS = 20.0
_STOP_SECONDS = 5.0


class OpenVSwitchError(Exception):
    """Open vSwitch did not start, or one of its commands failed. The text has the reason."""


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def inside(netns: str | None, command: Sequence[str]) -> list[str]:
    """The command line that runs `command` in a named network namespace (None: in this one).

    It uses nsenter and not `ip netns exec`, which mounts another /sys.
    """
    if netns is None:
        return list(command)
    return ["nsenter", f"--net={NETNS_DIRECTORY / netns}", *command]


@contextlib.contextmanager
def network_namespace(name: str) -> Iterator[str]:
    """Make a named network namespace with its loopback up; delete it afterwards."""
    subprocess.run(["ip", "netns", "add", name], check=True, capture_output=True, text=True)
    try:
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        yield name
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


class OpenVSwitch:
    """ovsdb-server and ovs-vswitchd in the network namespace `netns`, with their own directory.

    `directory` is made if it is missing and kept when it was given; without it a temporary one is
    used and removed at the end. Restarting in the same directory finds the same database.

    Use it as a context manager, or call `start` and `stop`. Every method raises
    `OpenVSwitchError` with the daemon's own words if something fails.
    """

    def __init__(self, netns: str | None = None, directory: Path | None = None) -> None:
        self.netns = netns
        self._temporary = directory is None
        self.rundir = directory or Path(tempfile.mkdtemp(prefix="ovsnet-ovs-"))
        self.database = self.rundir / "conf.db"
        self.db_socket = self.rundir / "db.sock"
        self._server: subprocess.Popen[bytes] | None = None
        self._switch: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """The variables under which Open vSwitch's own commands find this instance."""
        return os.environ | {
            "OVS_RUNDIR": str(self.rundir),
            "OVS_LOGDIR": str(self.rundir),
            "OVS_DBDIR": str(self.rundir),
        }

    @property
    def switch_pid(self) -> int | None:
        """Process id of ovs-vswitchd while it runs."""
        return self._switch.pid if self._switch else None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start both processes and return when the switch daemon has read its database."""
        self.start_server()
        self.start_switch()

    def start_server(self) -> None:
        """Start ovsdb-server on an existing or new database."""
        self.rundir.mkdir(parents=True, exist_ok=True)
        # Parts of ovs-vswitchd use this directory whatever OVS_RUNDIR says.
        _SHARED_RUNDIR.mkdir(parents=True, exist_ok=True)
        if not self.database.exists():
            self._run(["ovsdb-tool", "create", str(self.database), str(SCHEMA)])
        self._server = self._spawn(
            [
                "ovsdb-server",
                str(self.database),
                f"--remote=punix:{self.db_socket}",
                f"--pidfile={self.rundir / 'ovsdb-server.pid'}",
                f"--unixctl={self.rundir / 'ovsdb-server.ctl'}",
                f"--log-file={self.rundir / 'ovsdb-server.log'}",
                "-vconsole:off",
            ]
        )
        self._wait(self._server, "ovsdb-server", self.db_socket.is_socket)
        # Its socket is there a moment before it listens.
        self.vsctl("--retry", "--no-wait", "init")
        version = self._run(["ovs-vswitchd", "--version"]).split()[3]
        self.vsctl("--no-wait", "set", "Open_vSwitch", ".", f"ovs_version={version}")

    def start_switch(self) -> None:
        """Start ovs-vswitchd and return when it has read its configuration."""
        control = self.rundir / "ovs-vswitchd.ctl"
        self._switch = self._spawn(
            [
                "ovs-vswitchd",
                f"unix:{self.db_socket}",
                f"--pidfile={self.rundir / 'ovs-vswitchd.pid'}",
                f"--unixctl={control}",
                f"--log-file={self.rundir / 'ovs-vswitchd.log'}",
                "-vconsole:off",
            ]
        )
        self._wait(self._switch, "ovs-vswitchd", control.is_socket)
        self.vsctl("set", "Open_vSwitch", ".", "external_ids:hostname=" + (self.netns or "host"))

    def stop_switch(self) -> None:
        """Stop ovs-vswitchd; the database server goes on."""
        self._end(self._switch)
        self._switch = None
        (self.rundir / "ovs-vswitchd.ctl").unlink(missing_ok=True)

    def stop_server(self) -> None:
        """Stop ovsdb-server."""
        self._end(self._server)
        self._server = None

    def stop(self) -> None:
        """Stop both processes; the directory stays. Stopping twice is harmless."""
        self.stop_switch()
        self.stop_server()

    def close(self) -> None:
        """Stop both processes and remove the directory if it was a temporary one."""
        self.stop()
        if self._temporary:
            shutil.rmtree(self.rundir, ignore_errors=True)

    def vsctl(self, *arguments: str) -> str:
        """Run ovs-vsctl on this database and return what it printed."""
        return self._run(["ovs-vsctl", f"--db=unix:{self.db_socket}", "--timeout=20", *arguments])

    def ofctl(self, command: str, bridge: str, *arguments: str, stdin: str | None = None) -> str:
        """Run `ovs-ofctl -O OpenFlow15 COMMAND BRIDGE ARGUMENTS…` on this switch.

        The bridge is reached through its management socket, controller or not.
        """
        target = f"unix:{self.management_socket(bridge)}"
        return self._run(
            ["ovs-ofctl", "-O", "OpenFlow15", command, target, *arguments], stdin=stdin
        )

    def management_socket(self, bridge: str) -> Path:
        """The socket on which a bridge speaks OpenFlow to local tools."""
        return self.rundir / f"{bridge}.mgmt"

    def appctl(self, *arguments: str) -> str:
        """Run `ovs-appctl ARGUMENTS…` on this instance's ovs-vswitchd."""
        control = self.rundir / "ovs-vswitchd.ctl"
        return self._run(["ovs-appctl", f"--target={control}", "--timeout=20", *arguments])

    def log(self) -> str:
        """What ovs-vswitchd has logged so far."""
        path = self.rundir / "ovs-vswitchd.log"
        return path.read_text() if path.exists() else ""

    def _spawn(self, command: list[str]) -> subprocess.Popen[bytes]:
        with (self.rundir / f"{command[0]}.err").open("wb") as words:
            return subprocess.Popen(
                inside(self.netns, command),
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=words,
                preexec_fn=_die_with_parent,  # noqa: PLW1509  only prctl between fork and exec
            )

    def _wait(self, process: subprocess.Popen[bytes], name: str, ready: Callable[[], bool]) -> None:
        end = time.monotonic() + _START_SECONDS
        while not ready():
            if process.poll() is not None:
                words = (self.rundir / f"{name}.err").read_text().strip()
                raise OpenVSwitchError(f"{name} ended with status {process.returncode}: {words}")
            if time.monotonic() > end:
                raise OpenVSwitchError(f"{name} was not ready within {_START_SECONDS:g} s")
            time.sleep(0.01)

    def _run(self, command: list[str], stdin: str | None = None) -> str:
        done = subprocess.run(
            command,
            env=self.environment,
            input=stdin if stdin is not None else "",
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise OpenVSwitchError(f"{' '.join(command)}: {done.stderr.strip()}")
        return done.stdout

    def _end(self, process: subprocess.Popen[bytes] | None) -> None:
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
