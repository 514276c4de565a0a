"""`ovsnet why`: may one end reach another, by which policies, and do the switches agree."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from urllib.parse import urlencode

import click

from ovsnet.cli import controller
from ovsnet.controller.inquiry.questions import PROTOCOLS
from ovsnet.controller.inquiry.why import Answer, Decided, Fate, Flows, Reading, Why, read_why

NO_AGREEMENT = 1
_SECONDS = 60.0
_LABEL = 9
_INDENT = " " * 4
_HANGING = _INDENT + " " * _LABEL


@click.command()
@controller.option
@click.option("--json", "as_json", is_flag=True, help="Print the controller's JSON.")
@click.option(
    "--port",
    metavar="PORT",
    default="",
    help="The destination's port: a number, or the name that it declares for it. "
    "[default: every port that it declares]",
)
@click.option(
    "--protocol",
    type=click.Choice(list(PROTOCOLS), case_sensitive=False),
    default="tcp",
    show_default=True,
)
@click.argument("source", metavar="SRC")
@click.argument("destination", metavar="DST")
def why(
    controller_url: str | None,
    as_json: bool,
    port: str,
    protocol: str,
    source: str,
    destination: str,
) -> None:
    """Say whether one end may reach another, and why.

    SRC and DST are NAMESPACE/POD, node/NAME or an IP address. For each address family that both
    have it says what the network policies of either end decide: all rules that allow the
    connection, or all policies that isolate the pod if none does. Then it carries packets of the
    connection through the flows that the switches hold at this moment, and says whether these do
    what the policies say.

    Exit status: 0 the flows agree, be it allowed or denied (--json says which, in `allowed`); 1
    they do not, or nobody can tell; 2 an end is not known, or wrong usage; 3 the controller cannot
    be reached.
    """
    target = controller.locate(controller_url)
    query = {"source": source, "destination": destination, "protocol": protocol, "port": port}
    body = controller.fetch(target, f"/why?{urlencode(query)}", _SECONDS)
    try:
        document = read_why(body)
    except ValueError as error:
        raise controller.UnreachableError(
            f"{target} does not answer as an ovsnet controller does: {error}"
        ) from error
    if as_json:
        sys.stdout.buffer.write(body.rstrip() + b"\n")
    else:
        click.echo("\n".join(lines(document)))
    if not document.agree:
        sys.exit(NO_AGREEMENT)


def lines(document: Why) -> Iterator[str]:
    """The document for people."""
    yield click.style(
        f"{document.source} to {document.destination}, {document.protocol}", bold=True
    )
    yield from (f"note: {remark}" for remark in document.remarks)
    for answer in document.answers:
        yield ""
        yield from _answer(answer)
    yield ""
    yield _conclusion(document)


def _conclusion(document: Why) -> str:
    if not document.answers:
        return click.style("there is nothing to decide: see the notes", fg="red")
    if document.agree:
        return "the flows of the switches agree"
    if any(answer.flows.agree is False for answer in document.answers):
        text = "THE FLOWS OF THE SWITCHES DO NOT DO WHAT THE POLICIES SAY"
        return click.style(text, fg="red", bold=True)
    return click.style("whether the flows of the switches agree cannot be told", fg="red")


def _answer(answer: Answer) -> Iterator[str]:
    port = "" if answer.port is None else f" port {answer.port}"
    verdict = (
        click.style("allowed", fg="green") if answer.allowed else click.style("denied", fg="yellow")
    )
    yield f"{answer.family}, {answer.source} to {answer.destination}{port}: {verdict}"
    yield from _decided("egress", answer.egress)
    yield from _decided("ingress", answer.ingress)
    yield from _flows(answer.flows)


def _labelled(label: str, text: str) -> str:
    return f"{_INDENT}{label:<{_LABEL}}{text}"


def _decided(label: str, decided: Decided) -> Iterator[str]:
    verdict = "allowed" if decided.allowed else "denied"
    yield _labelled(label, f"{verdict}: {decided.reason}")
    yield from (f"{_HANGING}by {rule}" for rule in decided.rules)
    if not decided.allowed:
        yield f"{_HANGING}isolated by {', '.join(decided.isolated_by)}"


def _flows(flows: Flows) -> Iterator[str]:
    if flows.agree is None:
        yield _labelled("flows", click.style(f"unknown: {flows.problem}", fg="red"))
    elif not flows.agree:
        yield _labelled("flows", click.style(f"DISAGREE: {flows.problem}", fg="red", bold=True))
    elif not flows.fates:
        yield _labelled("flows", "agree: none is on the way")
    elif all(fate.arrives for fate in flows.fates):
        yield _labelled("flows", "agree: its packets arrive, and the answers")
    else:
        yield _labelled("flows", f"agree: it {flows.fates[0].where}")
        yield from _reading(flows.fates[0].flow)
    if not flows.agree:
        yield from _fates(flows.fates)


def _fates(fates: Iterable[Fate]) -> Iterator[str]:
    shown: Reading | None = None
    for fate in fates:
        mark = "" if fate.right else click.style(" (wrong)", fg="red")
        yield f"{_HANGING}the {fate.packet} {fate.where}{mark}"
        if not fate.right and fate.flow != shown:
            shown = fate.flow
            yield from _reading(shown)


def _reading(flow: Reading | None) -> Iterator[str]:
    if flow is None:
        return
    indent = _HANGING + _INDENT
    yield f"{_HANGING}by this flow of {flow.node}, table {flow.table}:"
    yield f"{indent}{flow.flow}"
    yield f"{indent}owner  {flow.owner}"
    yield f"{indent}takes  {flow.packets}"
    yield f"{indent}does   {flow.outcome}"
