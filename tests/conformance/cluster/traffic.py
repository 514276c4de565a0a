"""Traffic between pods that goes on while something is done, and how much of it was lost."""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Iterator
from ipaddress import ip_address

import msgspec

from tests.conformance.cluster.cluster import ClusterError
from tests.conformance.cluster.workload import Bench

_INTERVAL = 0.02
_MOST_SECONDS = 600


class Stream(msgspec.Struct):
    """Echo requests from one pod to an address. `sent` and `lost` are known when it has ended."""

    caller: str
    host: str
    sent: int = 0
    lost: int = 0


@contextlib.contextmanager
def pinging(bench: Bench, *ways: tuple[str, str]) -> Iterator[list[Stream]]:
    """Echo requests every 20 ms from each pod to each address, for as long as the context lasts.

    Raises:
        ClusterError: one does not tell what it counted.
    """
    streams = [Stream(caller, host) for caller, host in ways]
    running = []
    try:
        for stream in streams:
            running.append(_start(bench, stream))
        _first_answers(running)
        yield streams
    finally:
        for process in running:
            # ping sums up on SIGINT; kubectl passes no signals on, so it is told by its input.
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write("end\n")
                process.stdin.flush()
        said = [process.communicate(timeout=60)[0] for process in running]
    for stream, text in zip(streams, said, strict=True):
        found = re.search(r"(\d+) packets transmitted, (\d+) received", text)
        if not found:
            raise ClusterError(f"ping from {stream.caller} to {stream.host} said: {text[-500:]}")
        stream.sent = int(found[1])
        # The last request may still be without its answer when it ends.
        stream.lost = max(0, stream.sent - int(found[2]) - 1)


def _start(bench: Bench, stream: Stream) -> subprocess.Popen[str]:
    family = ip_address(stream.host).version
    script = (
        f"ping -{family} -O -i {_INTERVAL} -w {_MOST_SECONDS} {stream.host} & "
        "read -r _; kill -INT $!; wait $!"
    )
    return subprocess.Popen(
        bench.cluster.within_control(
            [
                str(bench.cluster.stock.kubernetes / "kubectl"),
                *("--kubeconfig", str(bench.cluster.kubeconfig)),
                *("--namespace", bench.namespace, "exec", "--stdin", stream.caller, "--"),
                *("bash", "-c", script),
            ]
        ),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _first_answers(running: list[subprocess.Popen[str]]) -> None:
    """Wait until each has had an answer; what is lost before that is another matter."""
    for process in running:
        for line in process.stdout:
            if "bytes from" in line:
                break
