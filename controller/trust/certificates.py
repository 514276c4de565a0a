"""The certificates that the authority signs: the controllers' own, and those of nodes.

A controller's may be shown by a server alone, a node's by a client alone (extended key usage):
Open vSwitch looks at no names of a controller, only at this and at who has signed.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ovsnet import names
from ovsnet.controller.trust.authority import BACK_DATED, Authority, key_pem

_CURVES: Final = (ec.SECP256R1, ec.SECP384R1)
_LONGEST_COMMON_NAME: Final = 64
_USAGE: Final = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)


class RequestError(Exception):
    """What a node has sent is no request that can be signed; the message says why."""


def controller_credentials(authority: Authority, now: datetime, life: timedelta) -> bytes:
    """A new key and its certificate for a controller, one after the other as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _signed(
        authority,
        key.public_key(),
        names.CONTROLLER_HOST,
        x509.DNSName(names.CONTROLLER_HOST),
        ExtendedKeyUsageOID.SERVER_AUTH,
        now,
        life,
    )
    return key_pem(key) + certificate


def node_certificate(
    authority: Authority, request: bytes, node: str, now: datetime, life: timedelta
) -> bytes:
    """The certificate of a node's key, as PEM. Of the request nothing counts but the key.

    Raises:
        RequestError: the request is none, or not signed by its own key, or the key is of a sort
            that is not taken.
    """
    return _signed(
        authority,
        _requested_key(request),
        node,
        x509.UniformResourceIdentifier(names.node_uri(node)),
        ExtendedKeyUsageOID.CLIENT_AUTH,
        now,
        life,
    )


def _requested_key(request: bytes) -> ec.EllipticCurvePublicKey:
    try:
        read = x509.load_pem_x509_csr(request)
        key = read.public_key()
        signed = read.is_signature_valid
    except (ValueError, UnsupportedAlgorithm) as error:
        raise RequestError(f"no certificate signing request: {error}") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, _CURVES):
        raise RequestError("expected a key of the curve P-256 or P-384")
    if not signed:
        raise RequestError("the request is not signed by the key that is in it")
    return key


def _signed(
    authority: Authority,
    key: ec.EllipticCurvePublicKey,
    name: str,
    alternative: x509.GeneralName,
    purpose: x509.ObjectIdentifier,
    now: datetime,
    life: timedelta,
) -> bytes:
    issuer = authority.certificate
    until = min(now + life, issuer.not_valid_after_utc)
    # Not by more than its life: it is renewed when a third of all its time is left.
    since = now - min(BACK_DATED, life)
    # For people to read; a node's name may be longer than X.520 allows here (ub-common-name).
    subject = x509.NameAttribute(NameOID.COMMON_NAME, name[:_LONGEST_COMMON_NAME])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([subject]))
        .issuer_name(issuer.subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(since)
        .not_valid_after(until)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_USAGE, critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=True)
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(_issuer_identifier(issuer), critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM)


def _issuer_identifier(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier.value)
