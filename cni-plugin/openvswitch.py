"""Open vSwitch for a host that has none: `python -m ovsnet.cni.openvswitch`.

Runs ovsdb-server and ovs-vswitchd with their sockets where a host's own would have them. As long as
the host has its own it runs nothing: two of them would take each other's sockets and datapath. One
that is installed later finds this one running (it sees the same processes), and leaves it alone
until the next boot. On SIGTERM ovs-vswitchd ends without taking anything down: with the kernel's
datapath what is cached there goes on forwarding until it is back. Its flows it gets back when it is
started anew (`ovsnet.cni.flowsave`), before the database's socket is where others look for it.
"""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import click

from ovsnet import logs
from ovsnet.cni import flowsave, uplink
from ovsnet.cni.flowsave import UnfitError
from ovsnet.cni.ovsdb import Database, DatabaseUnreachable, Operation, TransactionError

OWN_SOCKET = "own.sock"
"""Where ovs-vswitchd and this program reach the database, from its start to its end."""
SAVED = "flows.saved"
"""Where flows are written down. With the directory of what runs it is gone after a reboot."""
SCHEMA = Path("/usr/share/openvswitch/vswitch.ovsschema")
_START_SECONDS = 30.0
_STOP_SECONDS = 8.0
_PARK_SECONDS = 2.0
_PERIOD = 0.5

_log = logs.get("openvswitch")


class StartError(Exception):
    """A program did not start, or has ended. The text says which."""


def answers(database_socket: Path) -> bool:
    """Whether a database server listens there."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(database_socket)) == 0


def runs(rundir: Path) -> bool:
    """Whether an Open vSwitch runs there: the host's, or the network's, as long as it is ending."""
    return answers(rundir / "db.sock") or answers(rundir / OWN_SOCKET)


def prepare(database: Path, run: Callable[[Sequence[str]], str]) -> None:
    """Make the database, or bring one of another version to the schema of this one.

    Raises:
        StartError: that does not work.
    """
    if not database.exists():
        # Written beside it first: half a database would be taken for one at the next start.
        new = database.with_suffix(".new")
        new.unlink(missing_ok=True)
        run(["ovsdb-tool", "create", str(new), str(SCHEMA)])
        new.rename(database)
    elif run(["ovsdb-tool", "needs-conversion", str(database), str(SCHEMA)]).strip() == "yes":
        run(["ovsdb-tool", "convert", str(database), str(SCHEMA)])


def version(said: str) -> str:
    """The version in what `ovs-vswitchd --version` prints; empty if there is none."""
    found = re.search(r"\d+\.\d+\.\d+\S*", said)
    return found[0] if found else ""


_ERRORS = (StartError, UnfitError, DatabaseUnreachable, TransactionError, OSError)


def _run(command: Sequence[str], stdin: str = "") -> str:
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StartError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


class _Programs:
    """The two daemons, from `start` to `stop`."""

    def __init__(self, rundir: Path, database: Path) -> None:
        self._rundir = rundir
        self._database = database
        self._own = Database(rundir / OWN_SOCKET)
        self._started: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Start both; the switch has read its database, and has its flows, when this returns.

        Raises:
            StartError: one does not start.
            DatabaseUnreachable: it ends meanwhile.
        """
        server, others = self._rundir / OWN_SOCKET, self._rundir / "db.sock"
        prepare(self._database, _run)
        # A killed server leaves its sockets, which the next one could not make.
        for path in (server, others):
            path.unlink(missing_ok=True)
        self._spawn("ovsdb-server", str(self._database), f"--remote=punix:{server}")
        self._wait(lambda: answers(server), "ovsdb-server")
        known = version(_run(["ovs-vswitchd", "--version"]))
        _run(
            [
                *("ovs-vsctl", f"--db=unix:{server}", "--no-wait", "--", "init", "--"),
                *("set", "Open_vSwitch", ".", f"ovs-version={known}"),
            ]
        )
        self._own.transact([uplink.ASK_FOR_A_LOOK])
        self._spawn("ovs-vswitchd", f"unix:{server}")
        self._wait(lambda: uplink.looked(self._own), "ovs-vswitchd")
        self._restore()
        flowsave.unpark_all(self._own, self._change)
        self._remote("add", others)

    def ended(self) -> str:
        """The name of a program that has ended; empty while both run."""
        return next((n for n, program in self._started.items() if program.poll() is not None), "")

    def save(self) -> None:
        """Write down the switch's flows for the next start. Nobody else changes anything from then
        on, and `stop` has to follow.
        """
        try:
            self._remote("remove", self._rundir / "db.sock")
            change = partial(self._change, seconds=_PARK_SECONDS)
            flowsave.save(self._saved, self._own, change, self._rundir, _run)
        except _ERRORS as error:
            _log.warning("flows are not saved", reason=error)
        else:
            _log.info("flows saved", path=self._saved)

    def stop(self) -> None:
        """End the switch, then its database."""
        for program in reversed(self._started.values()):
            program.terminate()
            try:
                program.wait(_STOP_SECONDS / 2)
            except subprocess.TimeoutExpired:
                program.kill()
                program.wait()

    def _spawn(self, name: str, *arguments: str) -> None:
        _log.info("starting", program=name)
        own = [
            f"--pidfile={self._rundir / name}.pid",
            *("-vconsole:info", "-vsyslog:off", "-vfile:off", "--no-chdir"),
        ]
        if name == "ovsdb-server":
            own.append(f"--unixctl={self._rundir / name}.ctl")
        self._started[name] = subprocess.Popen([name, *arguments, *own])

    @property
    def _saved(self) -> Path:
        return self._rundir / SAVED

    def _restore(self) -> None:
        try:
            if flowsave.restore(self._saved, self._own, self._rundir, _run):
                _log.info("flows restored")
        except _ERRORS as error:
            _log.warning("flows are not restored; a controller will send them", reason=error)

    def _remote(self, what: str, path: Path) -> None:
        """Have the database server `add` or `remove` a socket for others."""
        control = f"--target={self._rundir / 'ovsdb-server'}.ctl"
        _run(["ovs-appctl", control, f"ovsdb-server/{what}-remote", f"punix:{path}"])

    def _change(self, operations: Sequence[Operation], seconds: float = _START_SECONDS) -> None:
        self._own.transact([*operations, uplink.ASK_FOR_A_LOOK])
        self._wait(lambda: uplink.looked(self._own), "ovs-vswitchd", seconds)

    def _wait(
        self, condition: Callable[[], bool], name: str, seconds: float = _START_SECONDS
    ) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if self.ended():
                raise StartError(f"{self.ended()} has ended meanwhile")
            if time.monotonic() > deadline:
                raise StartError(f"{name} does not answer after {seconds:g} s")
            time.sleep(0.01)


def stand_by(
    present: Callable[[], bool], running: Callable[[], bool], wait: Callable[[], bool]
) -> bool:
    """Leave it to the host's own Open vSwitch while that is `present` or `running`; True when it is
    gone. False when `wait`, which waits a moment, says that it is time to end.
    """
    ran = None
    while present() or running():
        runs = running()
        if runs and ran is not True:
            _log.info("the host runs its own Open vSwitch")
        if not runs and ran is not False:
            _log.warning("the host has its own Open vSwitch, which does not run: start that")
        ran = runs
        if wait():
            return False
    return True


def told_to_end() -> threading.Event:
    """An event that SIGTERM and SIGINT set from now on. For the main thread."""
    ending = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ending.set())
    return ending


@click.command()
@click.option(
    "--rundir",
    type=click.Path(path_type=Path),
    default=Path("/var/run/openvswitch"),
    show_default=True,
    help="Where the sockets are.",
)
@click.option(
    "--database",
    type=click.Path(path_type=Path),
    default=Path("/etc/openvswitch/conf.db"),
    show_default=True,
    help="The file of the database.",
)
@click.option(
    "--host-database",
    type=click.Path(path_type=Path),
    help="The file that the host's own Open vSwitch would have: where it is, only that is used.",
)
def main(rundir: Path, database: Path, host_database: Path | None) -> None:
    """Run Open vSwitch, unless the host has its own."""
    logs.configure(sys.stderr)
    stopping = told_to_end()
    gone = stand_by(
        lambda: host_database is not None and host_database.exists(),
        lambda: runs(rundir),
        lambda: stopping.wait(_PERIOD),
    )
    if not gone:
        return
    for directory in (rundir, database.parent):
        directory.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        # Where there is no module the agent chooses the userspace datapath, and says so.
        subprocess.run(["modprobe", "openvswitch"], capture_output=True, check=False)
    programs = _Programs(rundir, database)
    try:
        programs.start()
        while not stopping.wait(_PERIOD):
            if programs.ended():
                raise StartError(f"{programs.ended()} has ended")
        programs.save()
    except _ERRORS as error:
        _log.error("Open vSwitch does not run", reason=error)
        sys.exit(1)
    finally:
        programs.stop()


if __name__ == "__main__":
    main()
