"""Throughput, packets a second and round trip between pods, against a NORMAL flow and tunnel."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from tests.bench.figures import Figure, figure, show, write
from tests.bench.lab import Lab, Place, labs, run

_SECONDS = 3
_PINGS = 400
_ATTEMPTS = 3
_TARGET = 0.95
_RTT = re.compile(r"time=([\d.]+) ms")


class Measure(NamedTuple):
    """What is measured between two places: its unit, how, and whether less of it is better."""

    unit: str
    of: Callable[[Place, Place], list[float]]
    less_is_better: bool

    @property
    def target(self) -> float:
        """The ratio to the baseline that is aimed at."""
        return 1 / _TARGET if self.less_is_better else _TARGET


def figures(rounds: int) -> list[Figure]:
    """Every figure, ours and the baseline's measured in turn."""
    rows: list[Figure] = []
    with labs() as both, servers(both.ours, both.plain):
        for where in ("near", "far"):
            for what, measure in MEASURES.items():
                ours: list[float] = []
                plain: list[float] = []
                for _ in range(rounds):
                    for series, lab in ((ours, both.ours), (plain, both.plain)):
                        server = lab.near if where == "near" else lab.far
                        series.extend(measure.of(lab.client, server))
                place = "same node" if where == "near" else "across nodes"
                rows.append(
                    figure(
                        f"{what}, {place}",
                        measure.unit,
                        ours,
                        ("NORMAL", plain),
                        measure.target,
                        measure.less_is_better,
                    )
                )
    return rows


@contextlib.contextmanager
def servers(*found: Lab) -> Iterator[None]:
    """An iperf3 server in every place that traffic goes to; a pod's namespace needs only one."""
    places = {place.netns: place for lab in found for place in (lab.near, lab.far)}
    servers = [
        subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{place.netns}", "iperf3", "-s"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for place in places.values()
    ]
    time.sleep(0.5)
    try:
        yield
    finally:
        for server in servers:
            server.terminate()
            server.wait()


def _iperf(client: Place, server: Place, *words: str) -> dict[str, float]:
    """What iperf3 measured, tried again where the flood has cut off its own control connection."""
    for _ in range(_ATTEMPTS):
        out = run(client, "iperf3", "-c", server.address, "-J", "-t", str(_SECONDS), *words)
        ended: dict[str, dict[str, float]] = json.loads(out)["end"]
        for found in ("sum_received", "sum"):
            if found in ended:
                return ended[found]
        time.sleep(1)
    raise RuntimeError(f"iperf3 to {server.address}: {json.loads(out).get('error', out)}")


def _tcp(client: Place, server: Place) -> list[float]:
    return [_iperf(client, server)["bits_per_second"] / 1e6]


def _packets(client: Place, server: Place) -> list[float]:
    """64-byte datagrams that arrive, of as many as can be sent."""
    end = _iperf(client, server, "-u", "-b", "0", "-l", "64")
    return [end["packets"] * (1 - end["lost_percent"] / 100) / _SECONDS]


def _round_trips(client: Place, server: Place) -> list[float]:
    out = run(client, "ping", "-c", str(_PINGS), "-i", "0.002", server.address)
    return [float(value) for value in _RTT.findall(out)]


MEASURES = {
    "TCP throughput": Measure("Mbit/s", _tcp, less_is_better=False),
    "small packets": Measure("1/s", _packets, less_is_better=False),
    "round trip": Measure("ms", _round_trips, less_is_better=True),
}


if __name__ == "__main__":
    found = figures(rounds=3)
    show(found, Console())
    write(found, Path("build/bench/traffic.json"))
