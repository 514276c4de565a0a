"""A Lease (coordination.k8s.io/v1): read, created and updated, never against what somebody else
wrote meanwhile. An update names the resourceVersion that it changes, and the API server refuses it
if there is another by then.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from ovsnet.api.asking import Answer, NoAnswerError, Server, ask
from ovsnet.api.decode import read_refusal

_NOT_FOUND, _CONFLICT = 404, 409
_API_VERSION = "coordination.k8s.io/v1"


class LeaseError(Exception):
    """The API server gave no answer, or one that says nothing of the Lease. Whether what was sent
    has been done is not known.
    """


class ConflictError(Exception):
    """Somebody else has written, created or deleted the Lease meanwhile: nothing was done."""


class Lease(msgspec.Struct, frozen=True):
    """Who holds the Lease, and for how long.

    `seconds` it is held after each renewal. `transitions` counts its holders. `version` is its
    resourceVersion, empty for one that is not there yet; `metadata` is all of it, as it was read.
    """

    holder: str
    seconds: int
    transitions: int
    acquired: datetime | None = None
    renewed: datetime | None = None
    metadata: dict[str, Any] = {}

    @property
    def version(self) -> str:
        """By this two writings of the same Lease are told apart."""
        return str(self.metadata.get("resourceVersion", ""))


class _Spec(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """LeaseSpec; all its fields are optional."""

    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: datetime | None = None
    renew_time: datetime | None = None
    lease_transitions: int | None = None


class _Wire(msgspec.Struct, frozen=True, rename="camel"):
    metadata: dict[str, Any]
    spec: _Spec = _Spec()


class LeaseStore:
    """One Lease in the API server. `silence` is how many seconds an answer may take."""

    def __init__(self, server: Server, namespace: str, name: str, silence: float) -> None:
        self._server = server
        self._namespace, self._lease = namespace, name
        self._all = f"/apis/{_API_VERSION}/namespaces/{namespace}/leases"
        self._silence = silence

    @property
    def name(self) -> str:
        """The Lease's namespace and name, with a slash between them."""
        return f"{self._namespace}/{self._lease}"

    def read(self) -> Lease | None:
        """The Lease as it is; None if there is none.

        Raises:
            LeaseError: that is not known.
        """
        path = f"{self._all}/{self._lease}"
        status, body = self._ask(lambda: self._server.get(path, (), self._silence), _NOT_FOUND)
        return None if status == _NOT_FOUND else _lease(body)

    def write(self, lease: Lease) -> Lease:
        """Replace the version that `lease` was made from, or create it; returns it as it is now.

        Raises:
            ConflictError: that is not its present version.
            LeaseError: what became of it is not known.
        """
        server, silence = self._server, self._silence
        if lease.version:
            path, expected = f"{self._all}/{self._lease}", (_CONFLICT, _NOT_FOUND)
            body = _encoded(lease, lease.metadata)
            status, body = self._ask(lambda: server.put(path, body, silence), *expected)
        else:
            body = _encoded(lease, {"namespace": self._namespace, "name": self._lease})
            status, body = self._ask(lambda: server.post(self._all, body, silence), _CONFLICT)
        if status in (_CONFLICT, _NOT_FOUND):
            raise ConflictError(read_refusal(status, body).message)
        return _lease(body)

    def _ask(self, send: Callable[[], Answer], *expected: int) -> tuple[int, bytes]:
        try:
            return ask(send, *expected)
        except NoAnswerError as error:
            raise LeaseError(str(error)) from None


def _encoded(lease: Lease, metadata: dict[str, Any]) -> bytes:
    spec = {
        "holderIdentity": lease.holder,
        "leaseDurationSeconds": lease.seconds,
        "leaseTransitions": lease.transitions,
        "acquireTime": _micro(lease.acquired),
        "renewTime": _micro(lease.renewed),
    }
    document = {"apiVersion": _API_VERSION, "kind": "Lease", "metadata": metadata, "spec": spec}
    return msgspec.json.encode(document)


def _micro(moment: datetime | None) -> str | None:
    """A MicroTime as the API server wants it: in UTC, with six digits after the point."""
    return None if moment is None else f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"


_decode: Callable[[bytes], _Wire] = msgspec.json.Decoder(_Wire).decode


def _lease(body: bytes) -> Lease:
    try:
        wire = _decode(body)
    except ValueError as error:
        raise LeaseError(f"the Lease cannot be read: {error}") from None
    spec = wire.spec
    return Lease(
        holder=spec.holder_identity or "",
        seconds=spec.lease_duration_seconds or 0,
        transitions=spec.lease_transitions or 0,
        acquired=spec.acquire_time,
        renewed=spec.renew_time,
        metadata=wire.metadata,
    )
