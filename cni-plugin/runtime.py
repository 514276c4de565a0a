"""The Python that runs the plugin on hosts that have none, brought there by the agent's image.

It goes into a directory named for its content, so that a new one never changes what a plugin that
is just being executed has open; and the plugin's first line says which it wants. Should the agent
be gone, the plugin still runs, and says so.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

SHIPPED = Path("/opt/ovsnet/runtime")
"""Where the image has it."""

SYSTEM = "/usr/bin/python3"
"""What runs the plugin where no other is shipped."""

_PREFIX = ".ovsnet-python-"


class BringError(Exception):
    """The interpreter cannot be put in place; the text says why."""


def interpreter(configured: str, directory: Path, shipped: Path = SHIPPED) -> str:
    """The interpreter for the plugin: the configured one, else a shipped one, which is put in place
    below `directory`, else the system's.

    Raises:
        OSError, BringError: the shipped one cannot be put in place.
    """
    if configured:
        return configured
    return str(bring(shipped, directory)) if shipped.is_dir() else SYSTEM


def bring(shipped: Path, directory: Path) -> Path:
    """Put the shipped interpreter below `directory`, unless it is there; its path.

    Raises:
        OSError, BringError: it cannot be put in place.
    """
    target = directory / f"{_PREFIX}{_digest(shipped)}"
    if not target.is_dir():
        new = directory / f"{_PREFIX}new"
        shutil.rmtree(new, ignore_errors=True)
        shutil.copytree(shipped, new)
        # The kernel looks for the loader by its whole path, which only now is known.
        loader = ("patchelf", "--set-interpreter", str(target / "lib" / "ld.so"))
        done = subprocess.run(
            [*loader, str(new / "bin" / "python3")], capture_output=True, text=True, check=False
        )
        if done.returncode:
            shutil.rmtree(new, ignore_errors=True)
            raise BringError(f"patchelf: {done.stderr.strip()}")
        new.rename(target)
    return target / "bin" / "python3"


def remove_others(wanted: str, directory: Path) -> list[Path]:
    """Remove what earlier versions have brought, once no plugin names it; the removed ones."""
    others = [
        path for path in directory.glob(f"{_PREFIX}*") if not Path(wanted).is_relative_to(path)
    ]
    for path in others:
        shutil.rmtree(path, ignore_errors=True)
    return others


def _digest(directory: Path) -> str:
    found = hashlib.sha256()
    for path in _files(directory):
        found.update(f"{path.relative_to(directory)}\0".encode())
        found.update(path.read_bytes())
    return found.hexdigest()[:12]


def _files(directory: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(directory):
        folders.sort()
        yield from (Path(folder, name) for name in sorted(names))
