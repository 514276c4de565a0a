"""What becomes of a call of a service, as `ovsnet why` shows it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import click

from ovsnet.cli.fates import HANGING, INDENT, decided_lines, flows_lines, labelled
from ovsnet.controller.inquiry.why import Called, Flows, Outcome, Possible

_MOST: Final = 10
_HEADINGS: Final = ("Endpoint", "Pod", "Node", "Policies", "Flows")
_AGREEMENT: Final = {True: "agree", False: "DISAGREE", None: "unknown"}


def called_lines(called: Called) -> Iterator[str]:
    """One call, for people."""
    port = "" if called.port is None else f" port {called.port}"
    comes = f", as it comes to {called.node}" if called.relayed else ""
    call = f"{called.family}, {called.source} to {called.destination}{port}{comes}"
    yield f"{call}: {_verdict(called)}"
    named = f", port {called.service_port}" if called.service_port else ""
    face = f", by its {called.face}" if called.face else ""
    yield labelled("service", f"{called.service}{named}{face}, at the switch of {called.node}")
    if called.outcome is Outcome.HEALTH:
        yield labelled("health", f"the agent of {called.node} answers with status {called.status}")
        yield from flows_lines(called.flows)
    elif called.outcome is not Outcome.SERVED:
        yield labelled(called.outcome, called.reason)
        yield from _reaches_nobody(called.flows)
    else:
        yield from _served(called)


def _verdict(called: Called) -> str:
    if called.outcome is Outcome.HEALTH:
        return click.style("answered", fg="green")
    if called.outcome is not Outcome.SERVED:
        return click.style(called.outcome, fg="yellow")
    denied = [each for each in called.endpoints if not each.allowed]
    if not denied:
        return click.style("allowed", fg="green")
    if len(denied) == len(called.endpoints):
        return click.style("denied", fg="yellow")
    count = len(called.endpoints)
    return click.style(f"allowed to {count - len(denied)} of {count} endpoints", fg="yellow")


def _reaches_nobody(flows: Flows) -> Iterator[str]:
    if flows.agree and all(fate.arrives for fate in flows.fates):
        yield labelled("flows", "agree: its node refuses it, and the client hears of that")
    else:
        yield from flows_lines(flows)


def _served(called: Called) -> Iterator[str]:
    endpoints = called.endpoints
    if len(endpoints) == 1:
        yield labelled("served", f"by {_who(endpoints[0], called)}")
    else:
        yield labelled("served", f"by one of {len(endpoints)} endpoints")
    if called.affinity:
        kept = f"a client keeps its endpoint, until it has not called for {called.affinity} s"
        yield f"{HANGING}{kept}"
    if len(endpoints) > 1:
        yield from (f"{HANGING}{line}" for line in _table(endpoints))
    if not called.flows.agree:
        yield from flows_lines(called.flows)
    elif len(endpoints) > 1:
        yield labelled("flows", "agree: it is led to each of them, and to no other")
    if len(endpoints) == 1:
        yield from _details(endpoints[0])
        return
    for each in _worth_a_look(endpoints):
        yield f"{INDENT}{_who(each, called)}:"
        yield from (f"{INDENT}{line}" for line in _details(each))


def _who(each: Possible, called: Called) -> str:
    pod = f", {each.pod}" if each.pod else ""
    node = f" on {each.node}" if each.node else ""
    seen = f", seen as {each.seen}" if each.seen != called.source else ""
    return f"{each.endpoint}{pod}{node}{seen}"


def _details(each: Possible) -> Iterator[str]:
    yield from decided_lines("egress", each.egress)
    yield from decided_lines("ingress", each.ingress)
    if each.flows is not None:
        yield from flows_lines(each.flows)


def _worth_a_look(endpoints: Sequence[Possible]) -> Iterator[Possible]:
    """The first one that is denied, and the first one at which the flows do something else."""
    denied = next((each for each in endpoints if not each.allowed), None)
    wrong = next((each for each in endpoints if each.flows and not each.flows.agree), None)
    if denied is not None:
        yield denied
    if wrong is not None and wrong is not denied:
        yield wrong


def _table(endpoints: Sequence[Possible]) -> Iterator[str]:
    shown = sorted(endpoints, key=_trouble)[:_MOST]
    rows = [_HEADINGS, *map(_row, shown)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(f"{text:<{w}}" for text, w in zip(row, widths, strict=True)).rstrip()
    if len(endpoints) > len(shown):
        yield f"and {len(endpoints) - len(shown)} more: --json has all"


def _trouble(each: Possible) -> int:
    """Those first at which something is wrong, then those that are denied."""
    if each.flows is not None and not each.flows.agree:
        return 0
    return 1 if not each.allowed else 2


def _row(each: Possible) -> tuple[str, ...]:
    flows = "not tried" if each.flows is None else _AGREEMENT[each.flows.agree]
    policies = "allowed" if each.allowed else "denied"
    return each.endpoint, each.pod or "-", each.node or "-", policies, flows
