"""Requests that are signed and that are not, and what the certificates are good for in TLS."""

from __future__ import annotations

import base64
import contextlib
import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID
from trust_authority import DAY, NOW, Controllers, NodeFiles, authorities, node_credentials

from ovsnet.cni.credentials import new_request
from ovsnet.cni.identity import client_context
from ovsnet.controller.trust.certificates import RequestError, node_certificate
from ovsnet.controller.trust.contexts import server_context
from ovsnet.controller.trust.peers import Peer, peer_of
from ovsnet.names import CONTROLLER_HOST


def request(key, *extensions, name="", algorithm: object = hashes.SHA256()):
    subject = [x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else []
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(subject))
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(key, algorithm).public_bytes(serialization.Encoding.PEM)


def issued(text, node="node-1", now=NOW, life=DAY):
    found = node_certificate(authorities().signing, text, node, now, life)
    return x509.load_pem_x509_certificate(found)


def test_a_certificate_names_the_node_whatever_the_request_says():
    key = ec.generate_private_key(ec.SECP384R1())
    asked = request(
        key,
        x509.SubjectAlternativeName([x509.DNSName(CONTROLLER_HOST)]),
        x509.BasicConstraints(ca=True, path_length=None),
        x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]),
        name="node-2",
    )
    found = issued(asked)
    values = {type(e.value): e.value for e in found.extensions}
    names = list(values[x509.SubjectAlternativeName])
    assert names == [x509.UniformResourceIdentifier("urn:ovsnet:node:node-1")]
    assert found.subject.rfc4514_string() == "CN=node-1"
    assert values[x509.BasicConstraints].ca is False
    assert list(values[x509.ExtendedKeyUsage]) == [x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH]
    assert found.public_key() == key.public_key()


def test_it_is_valid_a_little_earlier_and_no_longer_than_its_authority():
    asked = new_request()[1].encode()
    day = issued(asked)
    assert day.not_valid_before_utc == NOW - timedelta(hours=1)
    assert day.not_valid_after_utc == NOW + DAY
    brief = issued(asked, life=timedelta(minutes=1))
    assert brief.not_valid_before_utc == NOW - timedelta(minutes=1)
    late = authorities(NOW - 3649 * DAY)
    last = node_certificate(late.signing, asked, "node-1", NOW, 7 * DAY)
    end = x509.load_pem_x509_certificate(last).not_valid_after_utc
    assert end == late.signing.certificate.not_valid_after_utc == NOW + DAY


def test_a_nodes_name_may_be_as_long_as_kubernetes_allows():
    name = ".".join(["n" * 62] * 4)
    found = issued(new_request()[1].encode(), name)
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.UniformResourceIdentifier(f"urn:ovsnet:node:{name}")]


def tampered():
    """A request of which the last bit of the signature is another one."""
    made = x509.load_pem_x509_csr(new_request()[1].encode())
    der = bytearray(made.public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1
    text = base64.encodebytes(der).decode()
    kind = "CERTIFICATE REQUEST"
    return f"-----BEGIN {kind}-----\n{text}-----END {kind}-----\n".encode()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (lambda: b"", "no certificate signing request"),
        (lambda: b"nonsense", "no certificate signing request"),
        (new_request()[0].encode, "no certificate signing request"),
        (
            lambda: request(rsa.generate_private_key(65537, 2048)),
            "expected a key of the curve P-256 or P-384",
        ),
        (
            lambda: request(ed25519.Ed25519PrivateKey.generate(), algorithm=None),
            "expected a key of the curve",
        ),
        (lambda: request(ec.generate_private_key(ec.SECP224R1())), "expected a key of the curve"),
        (tampered, "not signed by the key that is in it"),
    ],
    ids=["empty", "nonsense", "a key", "RSA", "Ed25519", "P-224", "tampered"],
)
def test_a_request_that_is_none_gets_no_certificate(text, words):
    with pytest.raises(RequestError, match=words):
        issued(text())


def shaken(server: ssl.SSLContext, client: ssl.SSLContext, host=CONTROLLER_HOST):
    """What a server learns of its client in a handshake; an error's words if there is none."""
    ours, theirs = socket.socketpair()
    found = []

    def serve():
        with contextlib.suppress(OSError), ours:
            try:
                with server.wrap_socket(ours, server_side=True) as tls:
                    found.append(tls.getpeercert())
                    tls.send(b"x")
            except ssl.SSLError as error:
                found.append(error.verify_message if hasattr(error, "verify_message") else "")

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with theirs, client.wrap_socket(theirs, server_hostname=host) as tls:
            tls.settimeout(20)
            assert tls.recv(1) == b"x"
    except (ssl.SSLError, ConnectionError, AssertionError) as error:
        thread.join()
        return found[0] if found and isinstance(found[0], str) and found[0] else str(error)
    thread.join()
    return found[0]


@pytest.fixture
def files(tmp_path):
    return NodeFiles(tmp_path / "tls")


def node_context(files, credentials, trusted):
    files.write(files.node, credentials)
    return client_context(trusted, files.node)


def test_a_node_and_a_controller_know_each_other(files):
    controllers = Controllers()
    good = node_credentials(controllers.held, "node-1")
    client = node_context(files, good, controllers.held.bundle)
    for context in (controllers.switches(), controllers.agents()):
        peer = peer_of(shaken(context, client))
        end = x509.load_pem_x509_certificate(good.encode()).not_valid_after_utc
        assert peer == Peer("node-1", end.timestamp())


def test_without_a_certificate_only_an_agent_is_let_in_and_is_nobody():
    controllers = Controllers()
    client = client_context(controllers.held.bundle)
    assert peer_of(shaken(controllers.agents(), client)) is None
    assert isinstance(shaken(controllers.switches(), client), str)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda held: node_credentials(authorities(), "node-1"), "local issuer"),
        (lambda held: node_credentials(held, "node-1", datetime.now(UTC) - 2 * DAY), "expired"),
        (lambda held: node_credentials(held, "node-1", datetime.now(UTC) + DAY), "not yet"),
        (lambda held: Controllers(held).own.decode(), "purpose"),
    ],
    ids=["foreign", "expired", "not yet", "a controller's"],
)
def test_a_client_with_another_certificate_is_refused(files, made, words):
    controllers = Controllers()
    client = node_context(files, made(controllers.held), controllers.held.bundle)
    for context in (controllers.switches(), controllers.agents()):
        assert words in shaken(context, client)


def test_an_agent_speaks_with_no_server_but_a_controller(files):
    controllers = Controllers()
    held = controllers.held
    client = client_context(held.bundle)
    node = node_credentials(held, CONTROLLER_HOST).encode()
    assert "purpose" in shaken(server_context(node, held.bundle, required=False), client)
    foreign = Controllers()
    assert "self-signed certificate" in shaken(foreign.agents(), client)
    assert "address mismatch" in shaken(controllers.agents(), client, host="192.0.2.1")


@pytest.mark.parametrize(
    "certificate",
    [
        None,
        {},
        {"subjectAltName": (), "notAfter": "Jan  1 00:00:00 2030 GMT"},
        {"subjectAltName": (("DNS", "urn:ovsnet:node:n"),), "notAfter": "Jan  1 00:00:00 2030 GMT"},
        {"subjectAltName": (("URI", "urn:ovsnet:node:"),), "notAfter": "Jan  1 00:00:00 2030 GMT"},
        {"subjectAltName": (("URI", "n"),), "notAfter": "Jan  1 00:00:00 2030 GMT"},
        {
            "subjectAltName": (("URI", "urn:ovsnet:node:n"), ("URI", "urn:ovsnet:node:m")),
            "notAfter": "Jan  1 00:00:00 2030 GMT",
        },
    ],
)
def test_a_certificate_that_names_not_just_one_node_is_no_nodes(certificate):
    assert peer_of(certificate) is None
