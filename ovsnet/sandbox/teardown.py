"""Taking a sandbox away, whatever state it is in: processes, namespaces and so links, files."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import msgspec

from ovsnet.sandbox import netns, node, process, state
from ovsnet.sandbox.layout import NETNS_DIRECTORY, Layout


class Removed(msgspec.Struct, frozen=True):
    """What there was to take away."""

    processes: int
    namespaces: int
    files: bool

    @property
    def anything(self) -> bool:
        """Whether there was anything at all."""
        return bool(self.processes or self.namespaces or self.files)


def namespaces(layout: Layout) -> tuple[Path, ...]:
    """The network namespaces that bear the sandbox's prefix, those of its pods included."""
    return tuple(sorted(NETNS_DIRECTORY.glob(f"{layout.prefix}-*")))


def clear(layout: Layout) -> Removed:
    """Remove everything of a sandbox but its directory itself, which carries the lock.

    Processes go first, for they could make what is removed after them. A link ends with its
    namespace, so none is removed by itself.

    Raises:
        TimeoutError: a process does not end.
        OSError: a file or namespace cannot be removed.
    """
    processes = process.end_all(layout.root)
    paths = namespaces(layout)
    for path in paths:
        netns.delete(path)
    if layout.made_rundir.exists():
        # Another sandbox, or the host's own Open vSwitch, may have begun to use it.
        with contextlib.suppress(OSError):
            node.SHARED_RUNDIR.rmdir()
    entries = list(layout.root.iterdir()) if layout.root.exists() else []
    for entry in entries:
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink(missing_ok=True)
    return Removed(processes, len(paths), bool(entries))


def remove(layout: Layout) -> Removed:
    """Remove everything of a sandbox, its directory too; the caller holds the lock.

    Raises:
        TimeoutError, OSError: as `clear`.
    """
    removed = clear(layout)
    layout.root.rmdir()
    # Others of ovsnet may have their own directory beside it.
    with contextlib.suppress(OSError):
        layout.root.parent.rmdir()
    return removed


def down(layout: Layout) -> Removed:
    """Take a sandbox away completely. Where there is none, nothing happens.

    Raises:
        BusyError: another command is changing it.
        TimeoutError, OSError: something cannot be removed.
    """
    with state.lock(layout):
        return remove(layout)
