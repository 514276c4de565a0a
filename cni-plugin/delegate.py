"""Delegation to an IPAM plugin that the network configuration names (CNI spec, section 4).

The plugin is an executable in CNI_PATH. It gets the same environment and configuration as we
did, with another CNI_COMMAND. What is needed to call it again for DEL goes on record.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ovsnet.cni.conf import Request
from ovsnet.cni.errors import CniError, Code, try_again

_PASSED_ON = ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS", "CNI_PATH")
_SECONDS = 10.0


@dataclass(frozen=True)
class IpamPlugin:
    """An IPAM plugin with the parameters of one attachment."""

    kind: str
    path: tuple[str, ...]
    environment: Mapping[str, str]
    conf: str

    def to_record(self) -> dict[str, Any]:
        """What the store keeps."""
        return {
            "kind": self.kind,
            "path": list(self.path),
            "environment": dict(self.environment),
            "conf": self.conf,
        }

    def add(self) -> Mapping[str, Any]:
        """ADD: the result that names the addresses.

        Raises:
            CniError: the plugin's own error, or that it is missing, or gave no result.
        """
        printed = self._run("ADD")
        try:
            value = json.loads(printed)
            if not isinstance(value, dict):
                raise TypeError
        except (ValueError, TypeError):
            raise CniError(
                Code.DECODING_FAILURE,
                f"ipam.type: plugin {self.kind!r} printed no JSON object: {printed[:200]!r}",
            ) from None
        return value

    def delete(self) -> None:
        """DEL, which succeeds when there is nothing to release.

        Raises:
            CniError: see `add`.
        """
        self._run("DEL")

    def check(self) -> None:
        """CHECK.

        Raises:
            CniError: see `add`.
        """
        self._run("CHECK")

    def collect(self, version: str) -> None:
        """GC, if the plugin speaks a version that has it.

        Raises:
            CniError: see `add`.
        """
        if self._speaks(version):
            self._run("GC")

    def status(self, version: str) -> None:
        """STATUS, if the plugin speaks a version that has it.

        Raises:
            CniError: see `add`.
        """
        self.executable()
        if self._speaks(version):
            self._run("STATUS")

    def _speaks(self, version: str) -> bool:
        """Whether the plugin knows `version`."""
        try:
            return version in json.loads(self._run("VERSION"))["supportedVersions"]
        except (ValueError, TypeError, KeyError, CniError):
            return False

    def executable(self) -> Path:
        """The plugin's file.

        Raises:
            CniError: there is none in CNI_PATH.
        """
        for directory in self.path:
            candidate = Path(directory) / self.kind
            if os.access(candidate, os.X_OK):
                return candidate
        raise CniError(
            Code.INVALID_CONFIG,
            f"ipam.type is {self.kind!r}, but no such plugin is in CNI_PATH"
            f" ({':'.join(self.path) or 'empty'})",
        )

    def _run(self, verb: str) -> bytes:
        environment = {**self.environment, "CNI_COMMAND": verb, "PATH": os.defpath}
        try:
            done = subprocess.run(
                [self.executable()],
                env=environment,
                input=self.conf.encode(),
                capture_output=True,
                timeout=_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise try_again(
                f"ipam.type: plugin {self.kind!r} did not answer {verb} within {_SECONDS:g} s"
            ) from None
        except OSError as error:
            raise CniError(
                Code.INVALID_CONFIG, f"ipam.type: plugin {self.kind!r} cannot be run: {error}"
            ) from None
        if done.returncode:
            raise _error(self.kind, verb, done.stdout, done.stderr)
        return done.stdout


def _error(kind: str, verb: str, stdout: bytes, stderr: bytes) -> CniError:
    """The plugin's error result as ours, or its words if it printed none."""
    try:
        value = json.loads(stdout)
        code, message = Code(value["code"]), str(value["msg"])
    except (ValueError, TypeError, KeyError):
        words = (stderr or stdout).decode(errors="replace").strip()
        code, message = Code.TRY_AGAIN, words or "it gave no reason"
    return CniError(code, f"IPAM plugin {kind!r} failed at {verb}: {message}")


def of_request(request: Request) -> IpamPlugin:
    """The plugin that the request's network configuration names."""
    assert request.conf.ipam is not None
    environment = {k: request.environment.get(k, "") for k in _PASSED_ON}
    kind = str(request.conf.ipam["type"])
    return IpamPlugin(kind, request.path, environment, request.conf.raw.decode())


def of_record(record: Mapping[str, Any]) -> IpamPlugin:
    """The plugin that was noted for an attachment."""
    return IpamPlugin(record["kind"], tuple(record["path"]), record["environment"], record["conf"])
