"""What the threads of ovs-vswitchd are doing, as the kernel tells it (proc(5), /proc/PID/syscall).

A thread that sleeps is shown with the number and arguments of the system call that it sleeps in,
one that runs or is about to is not.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_POLLS = {"x86_64": 7, "aarch64": 73}
"""The number of the system call behind poll(3), by machine."""

_REVALIDATOR = "revalidator"
_HANDLER = "handler"
_PMD = "pmd-"

_RESTING_DESCRIPTORS = 4
"""What the leader of the revalidators sleeps on after a round: the sequence number of changes, the
ends of a pause and of the thread, and signals. Within a round no revalidator waits for as much,
nor in the 5 ms for which the leader puts off a round that would follow too soon.
"""


@dataclass(frozen=True)
class Sleep:
    """A thread sleeps in poll(3), on so many descriptors."""

    descriptors: int


def sleeping(text: str, poll: int) -> Sleep | None:
    """Reads /proc/PID/syscall; None if the thread does not sleep in poll."""
    fields = text.split()
    if len(fields) < 3 or fields[0] != str(poll):
        return None
    return Sleep(int(fields[2], 16))


class Threads:
    """The threads of the process `pid`."""

    def __init__(self, proc: Path, pid: int, machine: str = os.uname().machine) -> None:
        self._tasks = proc / str(pid) / "task"
        self.poll = _POLLS.get(machine, -1)

    @property
    def visible(self) -> bool:
        """Whether it can be seen from here what the revalidators do."""
        if self.poll < 0:
            return False
        try:
            return any(self._syscall(thread) for thread in self._named(_REVALIDATOR))
        except OSError:
            return False

    @property
    def polls_ports(self) -> bool:
        """Whether there are threads that forward packets and never sleep."""
        return bool(self._named(_PMD))

    def leader_rests(self) -> bool:
        """Whether the revalidators have finished a round, and no change calls for another."""
        found = map(self._sleep, self._named(_REVALIDATOR))
        return any(s is not None and s.descriptors == _RESTING_DESCRIPTORS for s in found)

    def busy_handlers(self) -> frozenset[Path]:
        """The threads that deal with packets of which the cache knows nothing, and do so now."""
        return frozenset(t for t in self._named(_HANDLER) if self._sleep(t) is None)

    def _named(self, prefix: str) -> list[Path]:
        try:
            return [task for task in self._tasks.iterdir() if _name(task).startswith(prefix)]
        except OSError:
            return []

    def _sleep(self, thread: Path) -> Sleep | None:
        try:
            return sleeping(self._syscall(thread), self.poll)
        except OSError:
            # It has ended meanwhile.
            return None

    def _syscall(self, thread: Path) -> str:
        return (thread / "syscall").read_text()


def _name(task: Path) -> str:
    try:
        return (task / "comm").read_text()
    except OSError:
        return ""
