"""Why a peer was not let in, in words of which there are few: labels of a metric.

Nothing of them is the peer's own: they are ours, or from OpenSSL's list of errors.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Final

NO_NODES: Final = "no node's certificate"
ANOTHER_NODES: Final = "another node's certificate"
_SLOW: Final = "no handshake in time"
_GONE: Final = "connection lost"

TellRefusal = Callable[[str], None]
"""Called with the reason whenever a peer was not let in, from any thread."""


def reason_of(error: Exception) -> str:
    """Why a TLS handshake failed."""
    # asyncio ends a handshake of its own that takes too long with the second of these.
    if isinstance(error, TimeoutError | ConnectionAbortedError):
        return _SLOW
    return openssl_words(error) or _GONE


def openssl_words(error: Exception) -> str:
    """OpenSSL's reason as people write it; its name for it is all that some errors have. Empty if
    it is no error of OpenSSL's.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    reason = error.reason if isinstance(error, ssl.SSLError) else None
    return reason.replace("_", " ").lower() if reason else ""
