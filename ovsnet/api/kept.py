"""Secrets and ConfigMaps (core/v1): one object's data, read and written.

Writing never undoes what somebody else wrote meanwhile: an update names the resourceVersion that it
changes, and the API server refuses it if there is another by then.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from ovsnet.api.asking import NoAnswerError, Server, ask

_NOT_FOUND, _CONFLICT = 404, 409
_PATHS = {"Secret": "secrets", "ConfigMap": "configmaps"}


class Kept(msgspec.Struct, frozen=True):
    """An object's data. `metadata` is all of it, as it was read."""

    data: dict[str, str] = {}
    metadata: dict[str, Any] = {}


_decode = msgspec.json.Decoder(Kept).decode


class Keep:
    """One Secret or ConfigMap, by its name. `silence` is how many seconds an answer may take.

    A Secret's data is in base64, a ConfigMap's is text.
    """

    def __init__(
        self,
        server: Server,
        kind: Literal["Secret", "ConfigMap"],
        namespace: str,
        name: str,
        silence: float = 10.0,
    ) -> None:
        self._server = server
        self._kind = kind
        self._named = {"namespace": namespace, "name": name}
        self._all = f"/api/v1/namespaces/{namespace}/{_PATHS[kind]}"
        self._own = f"{self._all}/{name}"
        self._silence = silence

    def read(self) -> Kept | None:
        """The object as it is; None if there is none.

        Raises:
            NoAnswerError: that is not known.
        """
        status, body = ask(lambda: self._server.get(self._own, (), self._silence), _NOT_FOUND)
        if status == _NOT_FOUND:
            return None
        try:
            return _decode(body)
        except ValueError as error:
            raise NoAnswerError(f"the {self._kind} cannot be read: {error}") from None

    def write(self, data: Mapping[str, str], before: Kept | None) -> bool:
        """Give it this data, where `before` is what was read; False if it is not so any more.

        Raises:
            NoAnswerError: whether it was done is not known.
        """
        metadata = self._named if before is None else before.metadata
        body = msgspec.json.encode(
            {"apiVersion": "v1", "kind": self._kind, "metadata": metadata, "data": data}
        )
        if before is None:
            status, _ = ask(lambda: self._server.post(self._all, body, self._silence), _CONFLICT)
        else:
            status, _ = ask(
                lambda: self._server.put(self._own, body, self._silence), _CONFLICT, _NOT_FOUND
            )
        return status not in (_CONFLICT, _NOT_FOUND)
