"""What the certificate of a peer says that OpenSSL has verified."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from ovsnet import names

_ALTERNATIVES: Final = "subjectAltName"


class Peer(msgspec.Struct, frozen=True):
    """The node that a certificate names, and until when, in seconds since 1970."""

    node: str
    until: float


def peer_of(certificate: Mapping[str, Any] | None) -> Peer | None:
    """Out of what `ssl.SSLSocket.getpeercert` gives; None if it is no node's certificate.

    OpenSSL has seen to it by then that it is ours, that a client may show it and that it is valid
    now.
    """
    if not certificate:
        return None
    alternatives = certificate.get(_ALTERNATIVES, ())
    if len(alternatives) != 1 or alternatives[0][0] != "URI":
        return None
    node = names.node_of_uri(alternatives[0][1])
    if node is None:
        return None
    return Peer(node, float(ssl.cert_time_to_seconds(certificate["notAfter"])))
