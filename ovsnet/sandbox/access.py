"""Where an API server is, and as whom one speaks to it: what kubeconfig files say."""

from __future__ import annotations

import ssl
import tempfile
from base64 import b64decode
from pathlib import Path
from typing import Any, NamedTuple

import yaml

Section = dict[str, Any]


class KubeconfigError(Exception):
    """A kubeconfig does not say where the API server is."""


class Access(NamedTuple):
    """The way to one API server."""

    server: str
    """A URL without a slash at its end."""

    tls: ssl.SSLContext | None = None
    """Whom to trust, and the certificate by which we are known; None for a server without TLS."""

    token: str = ""


def of_file(kubeconfig: Path) -> Access:
    """The access that a kubeconfig's current context gives.

    Raises:
        KubeconfigError: the file names no server, or its credentials are of no use.
        OSError: the file, or one that it names, cannot be read.
    """
    try:
        return of_text(kubeconfig.read_text())
    except KubeconfigError as error:
        raise KubeconfigError(f"{kubeconfig} {error}") from error


def of_text(text: str) -> Access:
    """The access that the text of a kubeconfig gives. Raises as `of_file` does."""
    try:
        document = yaml.safe_load(text)
        context = _named(document, "contexts", "context")[document["current-context"]]
        cluster = _named(document, "clusters", "cluster")[context["cluster"]]
        user = _named(document, "users", "user").get(context.get("user", ""), {})
        server = str(cluster["server"]).rstrip("/")
        tls = _tls(cluster, user) if server.startswith("https:") else None
        return Access(server, tls, str(user.get("token", "")))
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise KubeconfigError(f"names no server: {error!r}") from error
    except (ssl.SSLError, ValueError) as error:
        raise KubeconfigError(f"has unusable credentials: {error}") from error


def _named(document: Section, plural: str, singular: str) -> dict[str, Section]:
    return {each["name"]: each[singular] for each in document.get(plural) or ()}


def _tls(cluster: Section, user: Section) -> ssl.SSLContext:
    authority = _content(cluster, "certificate-authority")
    context = ssl.create_default_context(cadata=authority.decode() if authority else None)
    certificate, key = _content(user, "client-certificate"), _content(user, "client-key")
    if certificate and key:
        # OpenSSL reads a client's certificate from a file only.
        with tempfile.NamedTemporaryFile() as file:
            file.write(certificate + b"\n" + key)
            file.flush()
            context.load_cert_chain(file.name)
    return context


def _content(section: Section, name: str) -> bytes:
    """A credential, which is in the kubeconfig or in a file that it names; empty: there is none."""
    if data := section.get(f"{name}-data"):
        return b64decode(data)
    return Path(section[name]).read_bytes() if section.get(name) else b""
