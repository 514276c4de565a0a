"""Where Kubernetes' programs are."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from ovsnet.sandbox.controlplane.options import ETCD


class MissingProgramError(Exception):
    """A program is not where it should be; the text says which and where it was sought."""


def find(directory: Path, names: Iterable[str]) -> dict[str, str]:
    """The paths of these programs by name; etcd is also taken from PATH.

    Raises:
        MissingProgramError: some are not there.
    """
    found = {
        name: shutil.which(name, path=str(directory))
        or (shutil.which(name) if name == ETCD else None)
        for name in names
    }
    missing = sorted(name for name, path in found.items() if path is None)
    if missing:
        hint = "; Debian has it in the package etcd-server" if ETCD in missing else ""
        raise MissingProgramError(f"{directory} has no {', '.join(missing)}{hint}")
    return {name: os.path.realpath(path) for name, path in found.items() if path is not None}
