"""The sandbox's processes: started in a network namespace, found again, ended.

A process is known by its pid together with its start time, so that a pid which the kernel has
given to somebody else since is never taken for it. On top of that every process carries an
environment variable with the sandbox's directory, and so do its children. By that mark `down`
finds what was started in the instant before a crash and never written down.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from ovsnet.sandbox import netns
from ovsnet.sandbox.layout import Layout

MARK = "OVSNET_SANDBOX_ROOT"
"""Environment variable of every process of a sandbox: the sandbox's directory."""

_START_TIME_FIELD = 19
_STATE_FIELD = 0
_ENDED = "ZX"
_KILL_SECONDS = 5.0


class ProcessError(Exception):
    """A process could not be started, or is not known."""


class Spec(msgspec.Struct, frozen=True):
    """How a process is started: its name in the sandbox, command, namespace, environment."""

    name: str
    command: tuple[str, ...]
    netns: str | None = None
    environment: dict[str, str] = msgspec.field(default_factory=dict)


class Record(msgspec.Struct, frozen=True):
    """A process that was started: its spec, its pid and its start time in clock ticks."""

    spec: Spec
    pid: int
    start_time: int


def _stat_fields(pid: int) -> list[str]:
    """The fields of /proc/PID/stat behind the command's name, which may hold anything.

    Raises:
        FileNotFoundError, ProcessLookupError: there is no such process.
    """
    text = Path(f"/proc/{pid}/stat").read_text()
    return text[text.rindex(")") + 2 :].split()


def start_time(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None if it has ended."""
    try:
        fields = _stat_fields(pid)
    except (FileNotFoundError, ProcessLookupError):
        return None
    if fields[_STATE_FIELD] in _ENDED:
        return None
    return int(fields[_START_TIME_FIELD])


def alive(record: Record) -> bool:
    """Whether this very process is still running."""
    return start_time(record.pid) == record.start_time


def _record_path(layout: Layout, name: str) -> Path:
    return layout.processes / f"{name}.json"


def log_path(layout: Layout, name: str) -> Path:
    """The file with everything that the process called `name` printed."""
    return layout.logs / f"{name}.log"


def records(layout: Layout) -> dict[str, Record]:
    """Every process that was started and written down, running or not, by name."""
    found = (
        msgspec.json.decode(path.read_bytes(), type=Record)
        for path in sorted(layout.processes.glob("*.json"))
    )
    return {record.spec.name: record for record in found}


def start(layout: Layout, spec: Spec, environment: Mapping[str, str] = os.environ) -> Record:
    """Start a process in its namespace, in a session of its own, its output in its log.

    Raises:
        ProcessError: it runs already, or its program cannot be executed.
        OSError: its namespace cannot be entered.
    """
    path = _record_path(layout, spec.name)
    if path.exists() and alive(msgspec.json.decode(path.read_bytes(), type=Record)):
        raise ProcessError(f"{spec.name} is running already")
    layout.processes.mkdir(parents=True, exist_ok=True)
    layout.logs.mkdir(parents=True, exist_ok=True)

    def spawn() -> subprocess.Popen[bytes]:
        with log_path(layout, spec.name).open("ab") as log:
            return subprocess.Popen(
                spec.command,
                env={**environment, **spec.environment, MARK: str(layout.root)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd="/",
                start_new_session=True,
            )

    try:
        child = netns.within(Path(spec.netns), spawn) if spec.netns else spawn()
    except FileNotFoundError as error:
        raise ProcessError(f"cannot start {spec.name}: {error}") from error
    # The child is not waited for here, so its entry in /proc stays until it is.
    record = Record(spec, child.pid, int(_stat_fields(child.pid)[_START_TIME_FIELD]))
    # It outlives this process, and is reaped by pid in `_reap`: Popen must not complain about it.
    child.returncode = 0
    partial = path.with_suffix(".partial")
    partial.write_bytes(msgspec.json.encode(record))
    partial.rename(path)
    return record


def restart(layout: Layout, name: str) -> Record:
    """Start a process again that has ended, just as it was started before.

    Raises:
        ProcessError: there is none of that name, it is still running, or it cannot be started.
    """
    return start(layout, known(layout, name).spec)


def known(layout: Layout, name: str) -> Record:
    """The record of the process called `name`.

    Raises:
        ProcessError: the sandbox has none of that name; the message lists those that it has.
    """
    found = records(layout)
    if name not in found:
        names = ", ".join(found) or "none"
        raise ProcessError(f"the sandbox has no process {name!r}; it has: {names}")
    return found[name]


def forget(layout: Layout, name: str) -> None:
    """Take the process called `name`, which has ended for good, off the list."""
    _record_path(layout, name).unlink(missing_ok=True)


def _reap(pid: int) -> None:
    """Collect the exit status, if the process is a child of this one; else init does."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


@contextlib.contextmanager
def _handle(pid: int) -> Iterator[int | None]:
    """A pidfd, which stands for one process for ever; None if there is none of that pid."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def end(record: Record, how: signal.Signals = signal.SIGKILL, wait: bool = True) -> bool:
    """Send a signal to this very process; False if it had ended before.

    With `wait` it returns when the process has ended.

    Raises:
        TimeoutError: it was waited for and did not end within 5 s.
    """
    with _handle(record.pid) as handle:
        # The start time is compared while the handle is held: from here on the pid is its own.
        if handle is None or not alive(record):
            _reap(record.pid)
            return False
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, how)
        if wait:
            poll = select.poll()
            poll.register(handle, select.POLLIN)
            if not poll.poll(_KILL_SECONDS * 1000):
                raise TimeoutError(f"process {record.pid} did not end on {how.name}")
            _reap(record.pid)
    return True


def _ancestors() -> set[int]:
    found = set()
    pid = os.getpid()
    while pid > 1:
        found.add(pid)
        pid = int(_stat_fields(pid)[1])
    return found


def _is_marked(pid: int, root: Path) -> bool:
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False
    return f"{MARK}={root}".encode() in environment and start_time(pid) is not None


def marked(root: Path) -> tuple[int, ...]:
    """The pids of all running processes that carry the mark of the sandbox at `root`.

    This process and those above it are left out: whoever takes a sandbox down from a shell that
    was started in it keeps the shell.
    """
    pids = {int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()}
    return tuple(pid for pid in sorted(pids - _ancestors()) if _is_marked(pid, root))


def end_all(root: Path, seconds: float = _KILL_SECONDS) -> int:
    """Kill every process that carries the mark of the sandbox at `root`; say how many.

    A process may start another while it is being looked for, so this repeats until none is left.

    Raises:
        TimeoutError: some were still there after `seconds`.
    """
    deadline = time.monotonic() + seconds
    ended: set[int] = set()
    while pids := marked(root):
        for pid in pids:
            with _handle(pid) as handle:
                # Looked at again under the handle: the pid may have changed hands since.
                if handle is not None and _is_marked(pid, root):
                    with contextlib.suppress(ProcessLookupError):
                        signal.pidfd_send_signal(handle, signal.SIGKILL)
                    ended.add(pid)
        time.sleep(0.01)
        if time.monotonic() > deadline:
            raise TimeoutError(f"processes {sorted(pids)} do not end")
    for pid in ended:
        _reap(pid)
    return len(ended)
