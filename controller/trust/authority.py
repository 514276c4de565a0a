"""The certificate authority: what it is made of, and when a new one takes its place.

A new authority is known for a while before it signs anything, and an old one for a while after it
has signed its last: so at any time everybody trusts whatever anybody shows. All controllers find
the same authorities in one Secret, and what is due follows from the certificates' own times.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

BACK_DATED: Final = timedelta(hours=1)
"""Certificates are valid from so long before they are made: clocks differ."""

_SIGNING: Final = "ca.crt", "ca.key"
_NEXT: Final = "next.crt", "next.key"
_FORMER: Final = "former.crt"
_FIELDS: Final = dict.fromkeys(
    (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "encipher_only",
        "decipher_only",
    ),
    False,
)


class AuthorityError(Exception):
    """What should be the authorities' Secret is not; the message says what is wrong with it."""


@dataclass(frozen=True)
class Authority:
    """A certificate that signs others, and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def made(self) -> datetime:
        """When it was made."""
        return self.certificate.not_valid_before_utc + BACK_DATED


@dataclass(frozen=True)
class Terms:
    """How long things last.

    `life` is an authority's; its successor is made when less than `successor` of it is left.
    `overlap` is how long the successor is known before it signs, and how long a former one is
    trusted after that: more than the life of the certificates that it has signed.
    """

    life: timedelta = timedelta(days=3650)
    successor: timedelta = timedelta(days=365)
    overlap: timedelta = timedelta(days=14)


@dataclass(frozen=True)
class Authorities:
    """The authority that signs, the one that will, and the one that did."""

    signing: Authority
    next: Authority | None = None
    former: x509.Certificate | None = None

    @property
    def trusted(self) -> tuple[x509.Certificate, ...]:
        """All certificates that others must know, the one that signs first."""
        others = (self.next.certificate if self.next else None, self.former)
        return (self.signing.certificate, *(c for c in others if c is not None))

    @property
    def bundle(self) -> str:
        """The trusted certificates as PEM."""
        return "".join(map(_pem, self.trusted))


def fresh(now: datetime, terms: Terms) -> Authority:
    """A new authority with a key of its own."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key()
    identifier = x509.SubjectKeyIdentifier.from_public_key(public)
    # Two authorities with one name would be told apart by their keys' identifiers alone.
    name = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, f"ovsnet authority {identifier.digest.hex()[:8]}")]
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACK_DATED)
        .not_valid_after(now + terms.life)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.KeyUsage(key_cert_sign=True, crl_sign=False, **_FIELDS), critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate, key)


def advanced(found: Authorities, now: datetime, terms: Terms) -> Authorities:
    """The authorities as they should be now: the same value if nothing is due."""
    signing, successor, former = found.signing, found.next, found.former
    if successor is not None and now >= successor.made + terms.overlap:
        return Authorities(successor, None, signing.certificate)
    left = signing.certificate.not_valid_after_utc - now
    if successor is None and left < terms.successor:
        successor = fresh(now, terms)
    if former is not None and now >= signing.made + 2 * terms.overlap:
        former = None
    unchanged = successor is found.next and former is found.former
    return found if unchanged else Authorities(signing, successor, former)


def secret_data(authorities: Authorities) -> dict[str, str]:
    """The data of the Secret that keeps them."""
    data = dict(zip(_SIGNING, _texts(authorities.signing), strict=True))
    if authorities.next is not None:
        data |= zip(_NEXT, _texts(authorities.next), strict=True)
    if authorities.former is not None:
        data[_FORMER] = _base64(_pem(authorities.former))
    return data


def read_secret(data: Mapping[str, str]) -> Authorities:
    """The authorities out of a Secret's data.

    Raises:
        AuthorityError: they are not all there, or something in them is wrong.
    """
    successor = _authority(data, *_NEXT) if any(field in data for field in _NEXT) else None
    former = _certificate(data, _FORMER) if _FORMER in data else None
    return Authorities(_authority(data, *_SIGNING), successor, former)


def _authority(data: Mapping[str, str], certificate_field: str, key_field: str) -> Authority:
    certificate = _certificate(data, certificate_field)
    try:
        key = serialization.load_pem_private_key(_octets(data, key_field), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise AuthorityError(f"{key_field}: no private key: {error}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise AuthorityError(f"{key_field}: expected a key of an elliptic curve")
    if key.public_key() != certificate.public_key():
        raise AuthorityError(f"{key_field} is not the key of {certificate_field}")
    return Authority(certificate, key)


def _certificate(data: Mapping[str, str], field: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(_octets(data, field))
    except ValueError as error:
        raise AuthorityError(f"{field}: no certificate: {error}") from None


def _octets(data: Mapping[str, str], field: str) -> bytes:
    try:
        return base64.b64decode(data[field], validate=True)
    except KeyError:
        raise AuthorityError(f"{field}: missing") from None
    except binascii.Error as error:
        raise AuthorityError(f"{field}: {error}") from None


def _texts(authority: Authority) -> tuple[str, str]:
    return _base64(_pem(authority.certificate)), _base64(key_pem(authority.key).decode())


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A private key as PEM, not encrypted."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def wall_time(seconds: float) -> datetime:
    """Seconds since 1970 as certificates have times: in whole seconds, of UTC."""
    return datetime.fromtimestamp(int(seconds), UTC)
