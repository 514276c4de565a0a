"""Keeps the packet filter's table in the kernel, by nft(8)."""

from __future__ import annotations

import subprocess

from ovsnet.cni.packetfilter import TABLE, PacketFilter


class PacketFilterError(Exception):
    """nft is missing or refused; the text has its words."""


class Installer:
    """Keeps the table in the kernel as it was installed."""

    def __init__(self) -> None:
        self._installed: tuple[PacketFilter, str] | None = None

    def ensure(self, wanted: PacketFilter) -> bool:
        """Install the table unless it is there unchanged; True if it was installed.

        After a restart it is installed once, as nobody knows who wrote what is there.

        Raises:
            PacketFilterError: nft failed.
        """
        if self._installed is not None and self._installed == (wanted, _list()):
            return False
        run(["-f", "-"], wanted.script())
        self._installed = wanted, _list()
        return True


def _list() -> str:
    try:
        return run(["list", "table", "inet", TABLE], "")
    except PacketFilterError:
        return ""


def run(arguments: list[str], stdin: str) -> str:
    """Run nft; returns what it prints.

    Raises:
        PacketFilterError: it is missing or refuses.
    """
    try:
        done = subprocess.run(
            ["nft", *arguments], input=stdin, capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise PacketFilterError(f"nft cannot be run: {error}") from None
    if done.returncode:
        raise PacketFilterError(f"nft {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout
