"""Network configuration lists, and what a runtime makes of them for each plugin.

CNI spec 1.1.0, sections 1 and 3 (execution of network configurations). Loading a directory
follows containerd's go-cni: of the files sorted by name, the first valid one is the network.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

Json = dict[str, Any]

_SUFFIXES = (".conf", ".conflist", ".json")
_FIRST_WITH_CACHED_RESULT = (0, 4, 0)
_FIRST_WITH_GC_AND_STATUS = (1, 1, 0)
_DEFAULT_VERSION = "0.1.0"
_VERSIONS = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")

VALID_ATTACHMENTS = ("cni.dev/valid-attachments", "cni.dev/attachments")
"""Keys of the attachments that GC keeps; libcni writes both, the second for early plugins."""


class ConflistError(Exception):
    """There is no usable network configuration. The text says where and why."""


class NetworkList(msgspec.Struct, frozen=True):
    """A network: the plugins to execute, in order."""

    name: str
    version: str
    plugins: tuple[Json, ...]
    disable_check: bool = False
    disable_gc: bool = False

    @property
    def _numbers(self) -> tuple[int, ...]:
        return tuple(int(part) for part in self.version.split("."))

    def declares(self, capability: str) -> bool:
        """Whether any of the plugins says that it has a capability."""
        return any((plugin.get("capabilities") or {}).get(capability) for plugin in self.plugins)

    @property
    def passes_result_to_del(self) -> bool:
        """Whether DEL gets the result of ADD (0.4.0 and later)."""
        return self._numbers >= _FIRST_WITH_CACHED_RESULT

    @property
    def has_gc_and_status(self) -> bool:
        """Whether the verbs GC and STATUS exist (1.1.0 and later)."""
        return self._numbers >= _FIRST_WITH_GC_AND_STATUS


def parse(text: str) -> NetworkList:
    """A configuration list, or a single configuration as a list of one.

    Raises:
        ConflistError: it is neither.
    """
    try:
        document = json.loads(text)
    except ValueError as error:
        raise ConflistError(f"no JSON: {error}") from None
    if not isinstance(document, dict):
        raise ConflistError("a JSON object was expected")
    plugins = document.get("plugins", [document] if "type" in document else None)
    if not isinstance(plugins, list) or not plugins:
        raise ConflistError("plugins: a list of at least one plugin was expected")
    for plugin in plugins:
        if not isinstance(plugin, dict) or not isinstance(plugin.get("type"), str):
            raise ConflistError("plugins: every plugin needs a type")
    if not isinstance(document.get("name"), str):
        raise ConflistError("name: the network's name was expected")
    version = _version(document)
    return NetworkList(
        name=document["name"],
        version=version,
        plugins=tuple(plugins),
        disable_check=bool(document.get("disableCheck", False)),
        disable_gc=bool(document.get("disableGC", False)),
    )


def _version(document: Json) -> str:
    """The version to speak: the latest that both the configuration and this runtime know.

    CNI spec 1.1.0, section 1, version considerations: `cniVersions` lists all versions that the
    configuration supports, so that runtimes from before it find theirs in `cniVersion`.
    """
    offered = [document.get("cniVersion") or _DEFAULT_VERSION, *document.get("cniVersions", ())]
    common = [version for version in _VERSIONS if version in offered]
    if not common:
        raise ConflistError(f"cniVersion: none of {offered} is one of {', '.join(_VERSIONS)}")
    return common[-1]


def load(directory: Path) -> NetworkList:
    """The network of a configuration directory.

    Raises:
        ConflistError: it holds no valid configuration.
    """
    faults = []
    paths = sorted(p for p in directory.glob("*") if p.suffix in _SUFFIXES)
    for path in paths:
        try:
            return parse(path.read_text())
        except (ConflistError, OSError) as error:
            faults.append(f"{path.name}: {error}")
    reason = "; ".join(faults) or "it holds no network configuration"
    raise ConflistError(f"{directory}: {reason}")


def plugin_configuration(
    network: NetworkList,
    plugin: Mapping[str, Any],
    previous: Json | None = None,
    capabilities: Mapping[str, Any] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Json:
    """What one plugin reads on its standard input.

    Name and version come from the list; `prevResult` is the result of the plugin before it;
    `runtimeConfig` holds those capabilities that the plugin says it has.
    """
    offered = capabilities or {}
    declared = plugin.get("capabilities") or {}
    wanted = {name: offered[name] for name, has in declared.items() if has and name in offered}
    configuration = {**plugin, "name": network.name, "cniVersion": network.version}
    if previous is not None:
        configuration["prevResult"] = previous
    if wanted:
        configuration["runtimeConfig"] = wanted
    return {**configuration, **(extra or {})}


def attachments(container_ids: Sequence[str], interface: str) -> Json:
    """The keys that GC's configuration has besides: what must be kept."""
    valid = [{"containerID": i, "ifname": interface} for i in container_ids]
    return dict.fromkeys(VALID_ATTACHMENTS, valid)
