"""Authorities and certificates for tests: good ones, and of every way that they can be wrong."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from ovsnet.cni.credentials import Files, new_request
from ovsnet.controller.trust.authority import Authorities, Terms, fresh
from ovsnet.controller.trust.certificates import controller_credentials, node_certificate
from ovsnet.controller.trust.contexts import server_context

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)


def authorities(now: datetime = NOW) -> Authorities:
    return Authorities(fresh(now, Terms()))


def node_credentials(
    signing: Authorities, node: str, now: datetime | None = None, life: timedelta = DAY
) -> str:
    """A node's key and certificate, as its agent writes them."""
    key, request = new_request()
    made = now or datetime.now(UTC).replace(microsecond=0)
    return key + node_certificate(signing.signing, request.encode(), node, made, life).decode()


def self_signed(node: str) -> str:
    """A certificate that says all that is wanted, signed by an authority of its own."""
    return node_credentials(authorities(), node)


class Controllers:
    """What controllers show and whom they trust; a test may exchange it for what comes next."""

    def __init__(self, held: Authorities | None = None) -> None:
        self.held = held or authorities()

    @property
    def own(self) -> bytes:
        return controller_credentials(self.held.signing, datetime.now(UTC), DAY)

    def switches(self):
        return server_context(self.own, self.held.bundle, required=True)

    def agents(self):
        return server_context(self.own, self.held.bundle, required=False)


class NodeFiles(Files):
    """A node's files, with what a test writes into them."""

    @classmethod
    def of(cls, directory: Path, credentials: str, trusted: str) -> NodeFiles:
        files = cls(directory)
        files.write(files.trusted, trusted)
        files.write(files.node, credentials)
        return files


def modes(directory: Path) -> dict[str, int]:
    """The permissions of a directory and all that is in it."""
    found = [directory, *directory.rglob("*")]
    return {str(path.relative_to(directory)): path.stat().st_mode & 0o7777 for path in found}
