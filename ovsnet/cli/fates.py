"""What policies and flows do to a connection, as `ovsnet why` shows it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import click

from ovsnet.controller.inquiry.why import Decided, Fate, Flows, Reading

_LABEL: Final = 9
INDENT: Final = " " * 4
HANGING: Final = INDENT + " " * _LABEL


def labelled(label: str, text: str) -> str:
    """A line that is about one thing."""
    return f"{INDENT}{label:<{_LABEL}}{text}"


def decided_lines(label: str, decided: Decided) -> Iterator[str]:
    """What the policies of one end decide."""
    verdict = "allowed" if decided.allowed else "denied"
    yield labelled(label, f"{verdict}: {decided.reason}")
    yield from (f"{HANGING}by {rule}" for rule in decided.rules)
    if not decided.allowed:
        yield f"{HANGING}isolated by {', '.join(decided.isolated_by)}"


def flows_lines(flows: Flows) -> Iterator[str]:
    """What the flows do to the packets of a connection."""
    if flows.agree is None:
        yield labelled("flows", click.style(f"unknown: {flows.problem}", fg="red"))
    elif not flows.agree:
        yield labelled("flows", click.style(f"DISAGREE: {flows.problem}", fg="red", bold=True))
    elif not flows.fates:
        yield labelled("flows", "agree: none is on the way")
    elif all(fate.arrives for fate in flows.fates):
        yield labelled("flows", "agree: its packets arrive, and the answers")
    else:
        yield labelled("flows", f"agree: it {flows.fates[0].where}")
        yield from _reading(flows.fates[0].flow)
    if not flows.agree:
        yield from _fates(flows.fates)


def _fates(fates: Iterable[Fate]) -> Iterator[str]:
    shown: Reading | None = None
    for fate in fates:
        mark = "" if fate.right else click.style(" (wrong)", fg="red")
        yield f"{HANGING}the {fate.packet} {fate.where}{mark}"
        if not fate.right and fate.flow != shown:
            shown = fate.flow
            yield from _reading(shown)


def _reading(flow: Reading | None) -> Iterator[str]:
    if flow is None:
        return
    indent = HANGING + INDENT
    yield f"{HANGING}by this flow of {flow.node}, table {flow.table}:"
    yield f"{indent}{flow.flow}"
    yield f"{indent}owner  {flow.owner}"
    yield f"{indent}takes  {flow.packets}"
    yield f"{indent}does   {flow.outcome}"
