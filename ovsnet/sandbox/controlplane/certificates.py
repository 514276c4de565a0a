"""The keys and certificates of a control plane (RFC 5280), by the library `cryptography`."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from ipaddress import ip_address

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_LIFE = timedelta(days=3650)
_SLACK = timedelta(hours=1)
"""How far other clocks may be behind."""

_SIGNS = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


class Pair(msgspec.Struct, frozen=True):
    """A certificate and its private key, both PEM."""

    certificate: bytes
    key: bytes


def private_key() -> bytes:
    """A new private key: P-256, PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_key(private: bytes) -> bytes:
    """The public key of a private one, PEM."""
    key = load_pem_private_key(private, None).public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def authority(name: str, now: datetime) -> Pair:
    """A new authority that signs its own certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(name, ())
    builder = (
        _builder(subject, now)
        .issuer_name(subject)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_SIGNS, critical=True)
    )
    return _pair(builder.sign(key, hashes.SHA256()), key)


def server(authority: Pair, names: Iterable[str], now: datetime) -> Pair:
    """A certificate for a server that is called by these names and addresses."""
    alternative = x509.SubjectAlternativeName([_general_name(name) for name in names])
    return _issue(authority, _name("server", ()), ExtendedKeyUsageOID.SERVER_AUTH, alternative, now)


def client(authority: Pair, user: str, groups: Iterable[str], now: datetime) -> Pair:
    """A certificate by which a client is that user of these groups to Kubernetes."""
    return _issue(authority, _name(user, groups), ExtendedKeyUsageOID.CLIENT_AUTH, None, now)


def _issue(
    authority: Pair,
    subject: x509.Name,
    purpose: x509.ObjectIdentifier,
    alternative: x509.SubjectAlternativeName | None,
    now: datetime,
) -> Pair:
    issuer = x509.load_pem_x509_certificate(authority.certificate)
    signing = load_pem_private_key(authority.key, None)
    assert isinstance(signing, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        _builder(subject, now)
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    )
    if alternative is not None:
        builder = builder.add_extension(alternative, critical=False)
    return _pair(builder.sign(signing, hashes.SHA256()), key)


def _builder(subject: x509.Name, now: datetime) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SLACK)
        .not_valid_after(now + _LIFE)
    )


def _pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Pair:
    return Pair(
        certificate.public_bytes(Encoding.PEM),
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )


def _name(user: str, groups: Iterable[str]) -> x509.Name:
    """A subject as Kubernetes reads it: the common name is the user, organizations are groups."""
    return x509.Name(
        [
            *(x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups),
            x509.NameAttribute(NameOID.COMMON_NAME, user),
        ]
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)
