"""Sandboxes of a run of tests: made when they are needed, taken down whatever happens."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from places import PodPlace
from programs import API_SERVER_WITH_CHOSEN_UIDS
from sandbox_lab import Lab

from ovsnet.sandbox.layout import RUN_DIRECTORY


@contextlib.contextmanager
def sandbox(
    kind: str,
    letter: str,
    nodes: int,
    *extra: str,
    embedded: str = API_SERVER_WITH_CHOSEN_UIDS,
) -> Iterator[Lab]:
    """A sandbox called by its kind, this process and a letter; all else is as in `Lab`."""
    if os.geteuid() != 0:
        pytest.skip("a sandbox needs root")
    _clear_the_dead(kind)
    lab = Lab(f"{kind}{os.getpid()}{letter}", extra, embedded)
    try:
        lab.up(nodes)
        yield lab
        refused = lab.refusals()
        assert not refused, refused
    finally:
        with undisturbed():
            lab.down()


def _clear_the_dead(kind: str) -> None:
    """Take down what test runs have left that were killed."""
    for path in RUN_DIRECTORY.glob(f"{kind}*"):
        pid = path.name.removeprefix(kind)[:-1]
        if pid.isdecimal() and not Path("/proc", pid).exists():
            Lab(path.name).down()


@contextlib.contextmanager
def ended_by_a_signal() -> Iterator[None]:
    """SIGTERM ends a run as Ctrl-C does, so that sandboxes are taken down."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Whoever presses Ctrl-C a second time, as it takes a while, must not end what takes down."""
    before = {each: signal.signal(each, signal.SIG_IGN) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def introduce(pods: Iterable[PodPlace]) -> None:
    """Let pods of different nodes speak to each other once.

    Userspace Open vSwitch loses the first packet to a node whose link-layer address it does not
    know yet; the tests are about all the others.
    """
    known = list(pods)
    for source in known:
        for target in known:
            if source.node != target.node:
                ping = ("ping", "-n", "-c", "5", "-i", "0.05", "-W", "1", target.address(4))
                source.run(*ping, check=False)
