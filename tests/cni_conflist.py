"""Runs a network configuration list as libcni does, for tests and measurements.

For ADD every plugin gets the list's name and version and the result of the one before; for CHECK
and DEL every one gets the final result, DEL in reverse order (CNI spec 1.1.0, section 3).
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class PluginError(Exception):
    """A plugin failed; holds its error result."""

    def __init__(self, plugin: str, verb: str, printed: str) -> None:
        super().__init__(f"{plugin} {verb}: {printed}")


def _configuration(
    conflist: Mapping[str, Any],
    plugin: Mapping[str, Any],
    capabilities: Mapping[str, Any],
    result: Mapping[str, Any] | None,
) -> bytes:
    conf = {k: v for k, v in plugin.items() if k != "capabilities"}
    conf |= {"cniVersion": conflist["cniVersion"], "name": conflist["name"]}
    wanted = {k: v for k, v in capabilities.items() if plugin.get("capabilities", {}).get(k)}
    if wanted:
        conf["runtimeConfig"] = wanted
    if result is not None:
        conf["prevResult"] = result
    return json.dumps(conf).encode()


def _execute(
    kind: str, bin_dirs: Sequence[Path], environment: Mapping[str, str], stdin: bytes
) -> dict[str, Any]:
    executable = next(d / kind for d in bin_dirs if (d / kind).exists())
    path = "/usr/sbin:/usr/bin:/sbin:/bin"
    done = subprocess.run(
        [executable],
        env={"PATH": path, **environment},
        input=stdin,
        capture_output=True,
        check=False,
    )
    if done.returncode:
        raise PluginError(kind, environment["CNI_COMMAND"], done.stdout.decode())
    return json.loads(done.stdout) if done.stdout.strip() else {}


def add(
    conflist: Mapping[str, Any],
    bin_dirs: Sequence[Path],
    environment: Mapping[str, str],
    capabilities: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """ADD through the whole list; returns the last plugin's result."""
    result: dict[str, Any] | None = None
    for plugin in conflist["plugins"]:
        stdin = _configuration(conflist, plugin, capabilities or {}, result)
        variables = {**environment, "CNI_COMMAND": "ADD"}
        result = _execute(plugin["type"], bin_dirs, variables, stdin)
    assert result is not None
    return result


def check(
    conflist: Mapping[str, Any],
    bin_dirs: Sequence[Path],
    environment: Mapping[str, str],
    result: Mapping[str, Any],
    capabilities: Mapping[str, Any] | None = None,
) -> None:
    """CHECK through the whole list."""
    for plugin in conflist["plugins"]:
        stdin = _configuration(conflist, plugin, capabilities or {}, result)
        variables = {**environment, "CNI_COMMAND": "CHECK"}
        _execute(plugin["type"], bin_dirs, variables, stdin)


def delete(
    conflist: Mapping[str, Any],
    bin_dirs: Sequence[Path],
    environment: Mapping[str, str],
    result: Mapping[str, Any] | None,
    capabilities: Mapping[str, Any] | None = None,
) -> None:
    """DEL through the whole list, backwards."""
    for plugin in reversed(conflist["plugins"]):
        stdin = _configuration(conflist, plugin, capabilities or {}, result)
        variables = {**environment, "CNI_COMMAND": "DEL"}
        _execute(plugin["type"], bin_dirs, variables, stdin)
