"""Measurements from inside a network namespace: ping, HTTP, a transfer with its checksum."""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import ssl
import subprocess
import time
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from ovsnet.sandbox import netns

TIMEOUT_SECONDS = 5.0

UNANSWERED = (OSError, http.client.HTTPException, ValueError)
"""What a request raises that got no answer, or none of a responder."""

_IP_HEADER = {4: 20, 6: 40}
_ICMP_HEADER = 8
_SUMMARY = re.compile(r"(\d+) packets transmitted, (\d+) received")
_ROUND_TRIP = re.compile(r"= [\d.]+/([\d.]+)/")
_SEQUENCE = re.compile(r"icmp_seq=(\d+) .*time=")


class Ping(msgspec.Struct, frozen=True):
    """What one run of ping saw; `milliseconds` is the mean round trip."""

    sent: int
    received: int
    milliseconds: float | None
    message: str = ""

    @property
    def complete(self) -> bool:
        """Whether something was sent and every answer came."""
        return 0 < self.sent == self.received


class Answer(msgspec.Struct, frozen=True):
    """What a responder answered: its name, and the client's address as it saw it."""

    pod: str
    client: str


class Transfer(msgspec.Struct, frozen=True):
    """A download: how many bytes came, in what time, and whether they were the right ones."""

    size: int
    seconds: float
    intact: bool
    message: str = ""


def payload_for(packet_size: int, target: str) -> int:
    """The payload (ping -s) that makes an IP packet of so many bytes (RFC 791, 792, 8200)."""
    return packet_size - _IP_HEADER[ip_address(target).version] - _ICMP_HEADER


def parse_ping(output: str, errors: str = "") -> Ping:
    """What ping's output says."""
    summary = _SUMMARY.search(output)
    if summary is None:
        return Ping(0, 0, None, (errors or output).strip())
    trip = _ROUND_TRIP.search(output)
    sent, received = int(summary[1]), int(summary[2])
    return Ping(sent, received, float(trip[1]) if trip else None, errors.strip())


def lost(output: str) -> tuple[int, int]:
    """How many packets an interrupted ping sent, and how many were lost.

    The one that was on its way when ping was interrupted is no loss.
    """
    answered = {int(number) for number in _SEQUENCE.findall(output)}
    summary = _SUMMARY.search(output)
    sent = int(summary[1]) if summary else 0
    last = max(answered, default=0)
    missing = last - len(answered)
    unanswered_at_the_end = max(0, sent - last - 1)
    return sent, missing + unanswered_at_the_end


def ping(source: Path, target: str, packet_size: int | None = None, count: int = 3) -> Ping:
    """Ping from a namespace; with `packet_size`, in IP packets of that size and no fragments."""
    command = ["ping", "-n", "-c", str(count), "-i", "0.1", "-W", "2"]
    if packet_size is not None:
        command += ["-M", "do", "-s", str(payload_for(packet_size, target))]
    done = netns.within(
        source,
        lambda: subprocess.run([*command, target], capture_output=True, text=True, check=False),
    )
    return parse_ping(done.stdout, done.stderr)


def _request(
    source: Path, target: str, port: int, path: str, tls: ssl.SSLContext | None = None
) -> tuple[bytes, dict[str, str]]:
    def ask() -> tuple[bytes, dict[str, str]]:
        connection = (
            http.client.HTTPConnection(target, port, timeout=TIMEOUT_SECONDS)
            if tls is None
            else http.client.HTTPSConnection(target, port, timeout=TIMEOUT_SECONDS, context=tls)
        )
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.read(), dict(response.getheaders())
        finally:
            connection.close()

    return netns.within(source, ask)


def get(
    source: Path, target: str, port: int, path: str, tls: ssl.SSLContext | None = None
) -> bytes:
    """What is at this path of a server, over TLS if it is said how.

    Raises:
        OSError, http.client.HTTPException, ValueError: see `UNANSWERED`.
    """
    return _request(source, target, port, path, tls)[0]


def who_answers(source: Path, target: str, port: int) -> Answer:
    """Ask a responder who it is and whom it sees.

    Raises:
        OSError, http.client.HTTPException, ValueError: see `UNANSWERED`.
    """
    body, _ = _request(source, target, port, "/")
    document = json.loads(body)
    seen = urlsplit(f"//{document['client']}").hostname or ""
    return Answer(document["pod"], seen)


def transfer(source: Path, target: str, port: int, size: int) -> Transfer:
    """Download `size` bytes over TCP and compare their checksum with the responder's."""
    began = time.monotonic()
    try:
        body, headers = _request(source, target, port, f"/bytes/{size}")
    except UNANSWERED as error:
        return Transfer(0, time.monotonic() - began, False, str(error))
    seconds = time.monotonic() - began
    intact = len(body) == size and hashlib.sha256(body).hexdigest() == headers.get("Digest")
    return Transfer(len(body), seconds, intact)


def mtu(source: Path, interface: str) -> int:
    """The MTU of an interface in a namespace, in bytes.

    Raises:
        ValueError: there is no such interface.
    """
    done = subprocess.run(
        ["ip", "-netns", source.name, "-json", "link", "show", "dev", interface],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ValueError(f"{source.name}: {done.stderr.strip()}")
    return int(json.loads(done.stdout)[0]["mtu"])


def connections(source: Path, port: int) -> int:
    """How many TCP connections to a port a namespace has now."""
    done = subprocess.run(
        [
            *("ss", "--net", source.name, "--tcp", "--numeric", "--no-header"),
            *("state", "established", "dport", "=", f":{port}"),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    return len(done.stdout.splitlines())
