"""What a sandbox could leave on a machine, before it and after it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from pathlib import Path

import msgspec

from ovsnet.sandbox import process, teardown
from ovsnet.sandbox.demo.checks import Check
from ovsnet.sandbox.layout import Layout


class Traces(msgspec.Struct, frozen=True):
    """Everything on the machine that is a sandbox's, and the links of the machine itself."""

    processes: tuple[int, ...]
    namespaces: tuple[str, ...]
    files: tuple[str, ...]
    links: frozenset[str]


def _links(netns: str | None) -> frozenset[str]:
    where = ["-netns", netns] if netns else []
    done = subprocess.run(
        ["ip", *where, "-json", "link"], capture_output=True, text=True, check=True
    )
    return frozenset(link["ifname"] for link in json.loads(done.stdout or "[]"))


def look(layout: Layout) -> Traces:
    """What there is now."""
    return Traces(
        processes=process.marked(layout.root),
        namespaces=tuple(path.name for path in teardown.namespaces(layout)),
        files=tuple(str(path) for path in _tree(layout.root)),
        links=_links(None),
    )


def links_inside(layout: Layout) -> frozenset[str]:
    """The links of all the sandbox's namespaces: those that could appear on the machine."""
    found: frozenset[str] = frozenset()
    for path in teardown.namespaces(layout):
        found |= _links(path.name)
    return found


def _tree(root: Path) -> Iterable[Path]:
    return (root, *root.rglob("*")) if root.exists() else ()


def checks(before: Traces, after: Traces, inside: frozenset[str]) -> tuple[Check, ...]:
    """That nothing of the sandbox is left.

    Links of the machine count only if they bear a name that the sandbox used: others come and go
    without it.
    """
    stray = sorted((after.links - before.links) & inside)
    found = (
        ("process", [str(pid) for pid in after.processes]),
        ("network namespace", list(after.namespaces)),
        ("link", stray),
        ("file", list(after.files)),
    )
    return tuple(
        Check(f"no {what} is left", not left, ", ".join(left[:5]) or "none") for what, left in found
    )
