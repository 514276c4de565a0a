"""Kubeconfigs, read as the sandbox's own client reads them."""

from __future__ import annotations

from base64 import b64encode
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ovsnet.sandbox import access
from ovsnet.sandbox.access import Access, KubeconfigError
from ovsnet.sandbox.controlplane import certificates

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TWO = (
    "contexts: [{name: a, context: {cluster: b}}, {name: c, context: {cluster: d}}]\n"
    "clusters: [{name: b, cluster: {server: 'http://1/'}}, {name: d, cluster: {}}]\n"
    "current-context: a\n"
)


def with_user(user: str, server: str = "https://1", cluster: str = "") -> str:
    return (
        "contexts: [{name: a, context: {cluster: b, user: u}}]\n"
        f"clusters: [{{name: b, cluster: {{server: '{server}'{cluster}}}}}]\n"
        f"users: [{{name: x, user: {{token: no}}}}, {{name: u, user: {{{user}}}}}]\n"
        "current-context: a\n"
    )


def test_a_server_without_tls(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(TWO)
    assert access.of_file(path) == Access("http://1")


def test_a_file_that_names_no_server(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    for broken in ("current-context: x", "[]", ":", "", TWO.replace(": a", ": c")):
        path.write_text(broken)
        with pytest.raises(KubeconfigError, match=f"{path} names no server"):
            access.of_file(path)


def test_the_token_of_the_contexts_user() -> None:
    assert access.of_text(with_user("token: secret", "http://1")) == Access(
        "http://1", None, "secret"
    )


def test_certificates_within_the_file_and_beside_it(tmp_path: Path) -> None:
    authority = certificates.authority("ca", NOW)
    pair = certificates.client(authority, "me", ("us",), NOW)
    files = {"ca": authority.certificate, "crt": pair.certificate, "key": pair.key}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    data = {name: b64encode(content).decode() for name, content in files.items()}
    beside = with_user(
        f"client-certificate: '{tmp_path}/crt', client-key: '{tmp_path}/key'",
        cluster=f", certificate-authority: '{tmp_path}/ca'",
    )
    within = with_user(
        f"client-certificate-data: {data['crt']}, client-key-data: {data['key']}",
        cluster=f", certificate-authority-data: {data['ca']}",
    )
    for text in (beside, within):
        tls = access.of_text(text).tls
        assert tls is not None
        assert [dict(part[0] for part in c["subject"]) for c in tls.get_ca_certs()] == [
            {"commonName": "ca"}
        ]


@pytest.mark.parametrize(
    "user",
    [
        "client-certificate-data: AAAA, client-key-data: AAAA",
        "client-certificate-data: x, client-key-data: x",
    ],
)
def test_credentials_that_are_of_no_use(user: str) -> None:
    with pytest.raises(KubeconfigError, match="unusable credentials"):
        access.of_text(with_user(user))
