"""What came of the suites: counted, kept, and written down in docs/conformance.md."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from tests.conformance.suites import SUITES, Result

ROOT = Path(__file__).parents[2]
REPORTS = ROOT / "build" / "conformance"
RESULTS = REPORTS / "results.json"
PAGE = ROOT / "docs" / "conformance.md"


def count(results: Iterable[Result]) -> str:
    """How many passed, failed and were skipped, in words."""
    counted = Counter(each.state for each in results)
    return ", ".join(f"{counted[state]} {state}" for state in ("passed", "failed", "skipped"))


def keep(results: Sequence[Result]) -> None:
    """Write results down, in place of earlier ones of the same suites."""
    ran = {each.suite for each in results}
    kept = [each for each in kept_results() if each.suite not in ran]
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_bytes(msgspec.json.encode([*kept, *results]))


def kept_results() -> list[Result]:
    """The results of the last run of each suite."""
    if not RESULTS.exists():
        return []
    return msgspec.json.decode(RESULTS.read_bytes(), type=list[Result])


def page(results: Sequence[Result], version: str) -> str:
    """docs/conformance.md."""
    lines = [
        "# Kubernetes' own tests",
        "",
        "Written by `make conformance` from what its last run gave; do not edit it.",
        "",
        f"The end-to-end tests are those of Kubernetes {version}, unchanged, on the cluster that",
        "`make conformance-up` starts: three nodes with containerd and kubelet, no kube-proxy.",
    ]
    for suite in SUITES:
        mine = sorted((r for r in results if r.suite == suite.name), key=lambda r: r.test)
        lines += ["", f"## {suite.name}: {count(mine)}", ""]
        lines += [f"Tests whose name matches `{suite.focus}`."]
        if suite.skips:
            lines += ["", "| left out | why |", "|---|---|"]
            lines += [f"| `{_cell(skip.pattern)}` | {skip.reason} |" for skip in suite.skips]
        lines += ["", "| test | |", "|---|---|"]
        lines += [f"| {_cell(_title(each.test))} | {_state(each)} |" for each in mine]
    return "\n".join(lines) + "\n"


def _title(test: str) -> str:
    """A test's name, without its labels, which upstream appends once more in brackets."""
    return re.sub(r" \[[^\]]*\]$", "", test).removeprefix("[sig-network] ")


def _state(result: Result) -> str:
    return f"{result.state}: {_cell(result.reason)}" if result.reason else result.state


def _cell(text: str) -> str:
    lines = text.strip().splitlines()
    return (lines[0] if lines else "").replace("|", "\\|")
