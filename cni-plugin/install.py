"""Puts the plugin and the network configuration where the container runtime looks for them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from ovsnet.cni import conf

LOOPBACK = "loopback"
"""What container runtimes execute besides the configured plugins, and few hosts have."""

_MOST_SHEBANG = 255
_FLAGS = "-ISXutf8"
"""UTF-8 whatever the locale: the interpreter that comes with the image has no other encodings."""

_OURS: dict[str, Any] = {"type": conf.PLUGIN_TYPE, "capabilities": {"bandwidth": True}}
_CAPABILITIES: dict[str, dict[str, Any]] = {
    "portmap": {"capabilities": {"portMappings": True}, "snat": True},
    # Not its capability to change the MAC: the spoof guard would drop all the pod sends.
    "tuning": {},
}


def plugin_text(interpreter: str, socket: str, patience: float) -> str:
    """The plugin as a file: its first line names the interpreter, its last calls it.

    Raises:
        ValueError: the interpreter's path does not fit in a first line.
    """
    first = f"#!{interpreter} {_FLAGS}"
    if len(first) > _MOST_SHEBANG or " " in interpreter:
        raise ValueError(
            f"interpreter: {interpreter!r} cannot stand in the first line of a script; expected a"
            f" path of at most {_MOST_SHEBANG - len(_FLAGS) - 3} characters without spaces"
        )
    source = resources.files("ovsnet.cni").joinpath("stub.py").read_text()
    return f"{first}\n{source}\n\nmain({socket!r}, {patience!r})\n"


def plugin_versions(executable: Path) -> list[str]:
    """The protocol versions that a plugin says it speaks; none if it does not say."""
    try:
        done = subprocess.run(
            [executable],
            env={"CNI_COMMAND": "VERSION"},
            input=b'{"cniVersion":"1.0.0"}',
            capture_output=True,
            timeout=5,
            check=False,
        )
        versions = json.loads(done.stdout)["supportedVersions"]
    except (OSError, ValueError, KeyError, TypeError, subprocess.TimeoutExpired):
        return []
    return [str(version) for version in versions]


def configuration(network: str, chain: Sequence[tuple[str, Sequence[str]]]) -> dict[str, Any]:
    """The network configuration list: ours, then the chain's plugins.

    `chain` has each plugin with the protocol versions that it speaks. The runtime gives one
    version to the whole list, so it may choose only among those that all plugins speak.
    `cniVersion` is for runtimes that do not know `cniVersions` (spec 1.1) and is at most 1.0.0,
    the newest that these know.

    Raises:
        ValueError: there is no version that all speak.
    """
    common = [v for v in conf.VERSIONS if all(v in versions for _, versions in chain)]
    if not common:
        spoken = "; ".join(f"{kind}: {', '.join(known) or 'none'}" for kind, known in chain)
        raise ValueError(f"the chain's plugins have no protocol version in common ({spoken})")
    plain = [v for v in common if v != "1.1.0"]
    plugins: list[dict[str, Any]] = [_OURS]
    plugins += [{"type": kind} | _CAPABILITIES[kind] for kind, _ in chain]
    return {
        "cniVersion": (plain or common)[-1],
        "cniVersions": common,
        "name": network,
        "plugins": plugins,
    }


def bring(
    source: Path, target: Path, names: Iterable[str], note: Callable[[str], None]
) -> list[str]:
    """Copy plugins that `target` lacks and `source` has; the names of those copied. `note` is told
    of each before.

    Raises:
        OSError: one cannot be copied.
    """
    brought = []
    for name in names:
        if (target / name).exists() or not (source / name).exists():
            continue
        note(name)
        new = target / f".{name}.new"
        shutil.copy(source / name, new)
        new.rename(target / name)
        brought.append(name)
    return brought


def write(path: Path, text: str, mode: int) -> bool:
    """Put a file in place as a whole, if its content or mode differ; True if it was written.

    Raises:
        OSError: it cannot be written.
    """
    try:
        if path.read_text() == text and path.stat().st_mode & 0o777 == mode:
            return False
    except (FileNotFoundError, UnicodeDecodeError):
        pass
    path.parent.mkdir(parents=True, exist_ok=True)
    # Runtimes read what is in the directory: the new file has a name that they pass over.
    new = path.with_name(f".{path.name}.new")
    try:
        with new.open("w") as file:
            file.write(text)
            os.fchmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
    return True
