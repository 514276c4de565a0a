"""The pod sandboxes of a node, on disk: what must survive a restart of the kubelet stand-in.

A record is written before the first thing is made and removed after the last one is gone, so
whatever was left by an interruption is named by one.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec


class Target(msgspec.Struct, frozen=True):
    """What the verbs of one container are about."""

    container_id: str
    netns: str
    namespace: str
    pod: str
    uid: str

    @property
    def arguments(self) -> str:
        """The value of CNI_ARGS."""
        pairs = (
            ("IgnoreUnknown", "1"),
            ("K8S_POD_NAMESPACE", self.namespace),
            ("K8S_POD_NAME", self.pod),
            ("K8S_POD_INFRA_CONTAINER_ID", self.container_id),
            ("K8S_POD_UID", self.uid),
        )
        return ";".join(f"{key}={value}" for key, value in pairs)


class Stage(StrEnum):
    """How far a sandbox is."""

    CREATING = "creating"
    READY = "ready"


class Sandbox(msgspec.Struct, frozen=True):
    """One pod sandbox. `result` is what ADD returned, `started` an RFC 3339 time."""

    target: Target
    stage: Stage
    started: str
    capabilities: dict[str, Any] = msgspec.field(default_factory=dict)
    result: dict[str, Any] | None = None


class Store:
    """The records in one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def _path(self, container_id: str) -> Path:
        return self._directory / f"{container_id}.json"

    def save(self, sandbox: Sandbox) -> None:
        """Write a record in place of the one that was there."""
        self._directory.mkdir(parents=True, exist_ok=True)
        path = self._path(sandbox.target.container_id)
        partial = path.with_suffix(".partial")
        partial.write_bytes(msgspec.json.encode(sandbox))
        partial.rename(path)

    def remove(self, sandbox: Sandbox) -> None:
        """Forget a sandbox; forgetting it twice succeeds."""
        self._path(sandbox.target.container_id).unlink(missing_ok=True)

    def all(self) -> tuple[Sandbox, ...]:
        """Every sandbox that was not forgotten."""
        return tuple(
            msgspec.json.decode(path.read_bytes(), type=Sandbox)
            for path in sorted(self._directory.glob("*.json"))
        )

    def of_pod(self, uid: str) -> tuple[Sandbox, ...]:
        """The sandboxes of one pod: one, or several where an earlier one is not yet gone."""
        return tuple(sandbox for sandbox in self.all() if sandbox.target.uid == uid)
