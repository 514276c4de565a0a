"""Everything about trust that a controller's process runs."""

from __future__ import annotations

import ssl
from datetime import timedelta
from types import TracebackType
from typing import Self

from ovsnet import names
from ovsnet.api import Connection, Keep, TokenDesk
from ovsnet.controller.trust.issuer import Issuer
from ovsnet.controller.trust.keyring import Keyring


class Office:
    """Keeps the authorities and issues nodes' certificates while its context lasts.

    `namespace` is that of the authorities' Secret and ConfigMap, and of the agents; `life` is that
    of a node's certificate.
    """

    def __init__(self, server: Connection, namespace: str, life: timedelta) -> None:
        self._keyring = Keyring(
            Keep(server, "Secret", namespace, names.AUTHORITY),
            Keep(server, "ConfigMap", namespace, names.AUTHORITY),
        )
        self._issuer = Issuer(self._keyring, TokenDesk(server), namespace, life)

    def switches(self) -> ssl.SSLContext | None:
        """TLS for switches that connect now; None until there are authorities."""
        held = self._keyring.held
        return held.switches if held else None

    def agents(self) -> ssl.SSLContext | None:
        """TLS for agents that connect now; None until there are authorities."""
        held = self._keyring.held
        return held.agents if held else None

    def issue(self, body: bytes) -> bytes:
        """Answer a request for a certificate; see `Issuer.issue`."""
        return self._issuer.issue(body)

    def __enter__(self) -> Self:
        self._keyring.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._keyring.stop()
