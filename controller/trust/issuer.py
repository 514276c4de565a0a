"""Gives an agent the certificate of its node, if it proves by its token which node that is.

POST /certificate   {"token": "eyJ…", "request": "-----BEGIN CERTIFICATE REQUEST-----…"}
                    200 {"certificate": "-----BEGIN CERTIFICATE-----…"}
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Final, Protocol

import msgspec

from ovsnet import logs, names
from ovsnet.api import NoAnswerError, Review
from ovsnet.controller.trust.authority import wall_time
from ovsnet.controller.trust.certificates import RequestError, node_certificate
from ovsnet.controller.trust.identity import Account, BoundPod, Disbelieved, NamedNode, bearer
from ovsnet.controller.trust.keyring import Keyring

_log = logs.get("trust")

NODE_ACCOUNT: Final = "ovsnet-node"
"""The service account of the agents."""

_MOST_CHARACTERS: Final = 16384
_TOKEN: Final = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)
"""A JSON web token (RFC 7519): what is none, the API server need not be troubled with."""


class RefusedError(Exception):
    """No certificate is given, for the reason in the message; `status` is HTTP's."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Desk(Protocol):
    """Asks the API server; `ovsnet.api.TokenDesk` does. Raises NoAnswerError."""

    def review(self, token: str, audience: str) -> Review:
        """What it says of a token."""

    def node_of_pod(self, namespace: str, name: str, uid: str) -> str | None:
        """The node of a pod."""


class _Request(msgspec.Struct, frozen=True):
    token: Annotated[str, msgspec.Meta(max_length=_MOST_CHARACTERS)]
    request: Annotated[str, msgspec.Meta(max_length=_MOST_CHARACTERS)]


class _Issued(msgspec.Struct, frozen=True):
    certificate: str


_decode = msgspec.json.Decoder(_Request).decode


class Issuer:
    """Issues nodes' certificates. `namespace` is that of the agents, `life` a certificate's."""

    def __init__(
        self,
        keyring: Keyring,
        desk: Desk,
        namespace: str,
        life: timedelta,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._keyring = keyring
        self._desk = desk
        self._namespace = namespace
        self._account = Account(f"system:serviceaccount:{namespace}:{NODE_ACCOUNT}", names.AUDIENCE)
        self._life = life
        self._clock = clock

    def issue(self, body: bytes) -> bytes:
        """The answer to a request, both as JSON. Waits for the API server.

        Raises:
            RefusedError: there is no certificate for this request.
        """
        try:
            asked = _decode(body)
        except ValueError as error:
            raise RefusedError(400, f"expected a token and a request: {error}") from None
        held = self._keyring.held
        if held is None:
            raise RefusedError(503, "the controller has no certificate authority yet")
        node = self._node(asked.token)
        now = wall_time(self._clock())
        try:
            certificate = node_certificate(
                held.authorities.signing, asked.request.encode(), node, now, self._life
            )
        except RequestError as error:
            raise RefusedError(400, str(error)) from None
        _log.info("certificate issued", node=node, hours=self._life / timedelta(hours=1))
        return msgspec.json.encode(_Issued(certificate.decode()))

    def _node(self, token: str) -> str:
        if not _TOKEN.fullmatch(token):
            raise RefusedError(403, "the token is none of a service account")
        try:
            match bearer(self._desk.review(token, names.AUDIENCE), self._account):
                case NamedNode(node):
                    return node
                case BoundPod(name, uid):
                    found = self._desk.node_of_pod(self._namespace, name, uid)
                    if found is None:
                        raise RefusedError(403, f"pod {name} of the token is on no node")
                    return found
                case Disbelieved(reason):
                    raise RefusedError(403, reason)
        except NoAnswerError as error:
            raise RefusedError(503, f"the token cannot be checked: {error}") from None
