"""TLS as the controller serves it: whom it shows itself to be, and whom it trusts."""

from __future__ import annotations

import os
import ssl
from typing import Final

_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2, which Open vSwitch before 2.16 speaks at best; those of TLS 1.3 are all good."""


def server_context(credentials: bytes, trusted: str, *, required: bool) -> ssl.SSLContext:
    """A context that shows these credentials (key and certificate, PEM).

    A client's certificate is verified against `trusted` (PEM). Without one a client is let in only
    if none is `required`.

    Raises:
        ssl.SSLError: the credentials, or what is to be trusted, are no such things.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    # A session that is resumed is verified against nothing that has changed since.
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
    context.load_verify_locations(cadata=trusted)
    _load(context, credentials)
    return context


def _load(context: ssl.SSLContext, credentials: bytes) -> None:
    """Python reads keys from files alone; this one lies in memory and has no name."""
    descriptor = os.memfd_create("ovsnet-credentials", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, credentials)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
