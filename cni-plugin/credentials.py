"""The node's key and certificate, and the files that keep them.

Key and certificate are in one file, which Open vSwitch reads for both: exchanged by one rename,
they always belong together.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ovsnet import names


def new_request() -> tuple[str, str]:
    """A new private key, and the request for its certificate, as PEM.

    The request names nobody: who it is for follows from the token that it is sent with.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return private.decode(), request.public_bytes(serialization.Encoding.PEM).decode()


def objection(credentials: str, node: str, trusted: str, now: datetime) -> str | None:
    """Why the node cannot go on with this key and certificate (PEM), in words; None: it can.

    A new certificate is due when a third of its life is left.
    """
    if not credentials:
        return "there is none yet"
    try:
        certificate = x509.load_pem_x509_certificate(credentials.encode())
        key = serialization.load_pem_private_key(credentials.encode(), None)
        authorities = x509.load_pem_x509_certificates(trusted.encode())
        named = _named(certificate)
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.ExtensionNotFound) as error:
        return f"it cannot be read: {error}"
    if key.public_key() != certificate.public_key():
        return "it is of another key"
    if named != node:
        return f"it is of node {named}"
    if not any(_signed_by(certificate, authority) for authority in authorities):
        return "nobody who is trusted has signed it"
    end = certificate.not_valid_after_utc
    if now >= end - (end - certificate.not_valid_before_utc) / 3:
        return f"it runs out at {end:%Y-%m-%dT%H:%M:%SZ}"
    return None


def _named(certificate: x509.Certificate) -> str | None:
    extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    uris = extension.value.get_values_for_type(x509.UniformResourceIdentifier)
    return names.node_of_uri(uris[0]) if len(uris) == 1 else None


def _signed_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    with contextlib.suppress(ValueError, TypeError, InvalidSignature):
        certificate.verify_directly_issued_by(authority)
        return True
    return False


@dataclass(frozen=True)
class Files:
    """Where they are; root alone may look into the directory."""

    directory: Path

    @property
    def node(self) -> Path:
        """The node's key and certificate."""
        return self.directory / "node.pem"

    @property
    def trusted(self) -> Path:
        """The certificates of the authorities."""
        return self.directory / names.AUTHORITY_KEY

    def read(self, path: Path) -> str:
        """What a file has; nothing if it is not there."""
        try:
            return path.read_text()
        except FileNotFoundError:
            return ""

    def write(self, path: Path, text: str) -> None:
        """Replace a file as a whole."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.directory.chmod(0o700)
        fresh = path.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(path)
