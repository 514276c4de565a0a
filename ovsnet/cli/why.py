"""`ovsnet why`: may one end reach another, by which policies and services, and do the switches
agree.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from urllib.parse import urlencode

import click

from ovsnet.cli import controller
from ovsnet.cli.called import called_lines
from ovsnet.cli.fates import decided_lines, flows_lines
from ovsnet.controller.inquiry.questions import PROTOCOLS
from ovsnet.controller.inquiry.why import Answer, Why, read_why

NO_AGREEMENT = 1
_SECONDS = 60.0


@click.command()
@controller.option
@click.option("--json", "as_json", is_flag=True, help="Print the controller's JSON.")
@click.option(
    "--port",
    metavar="PORT",
    default="",
    help="The destination's port: a number, or the name that it declares for it. "
    "[default: every port that it declares; a service's only one]",
)
@click.option(
    "--protocol",
    type=click.Choice(list(PROTOCOLS), case_sensitive=False),
    default=None,
    help="[default: that of the service's port, else tcp]",
)
@click.argument("source", metavar="SRC")
@click.argument("destination", metavar="DST")
def why(
    controller_url: str | None,
    as_json: bool,
    port: str,
    protocol: str | None,
    source: str,
    destination: str,
) -> None:
    """Say whether one end may reach another, and why.

    SRC and DST are NAMESPACE/POD, node/NAME or an IP address; DST may be service/NAMESPACE/NAME.
    For each address family that both have it says what the network policies of either end decide:
    all rules that allow the connection, or all policies that isolate the pod if none does. Then it
    carries packets of the connection through the flows that the switches hold at this moment, and
    says whether these do what the policies say.

    Of a call that a service takes, by whatever address or node port, it says which endpoints may
    get it from there, or why nobody does; and the same as above for each of them.

    Exit status: 0 the flows agree, be it allowed or denied (--json says which, in `allowed`); 1
    they do not, or nobody can tell; 2 an end is not known, or wrong usage; 3 the controller cannot
    be reached.
    """
    target = controller.locate(controller_url)
    query = {"source": source, "destination": destination, "port": port}
    query |= {"protocol": protocol} if protocol else {}
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
    for called in document.services:
        yield ""
        yield from called_lines(called)
    yield ""
    yield _conclusion(document)


def _conclusion(document: Why) -> str:
    if not document.answers and not document.services:
        return click.style("there is nothing to decide: see the notes", fg="red")
    if document.agree:
        return "the flows of the switches agree"
    every = [answer.flows for answer in document.answers]
    every += (flows for called in document.services for flows in called.every_flows)
    if any(flows.agree is False for flows in every):
        who = "POLICIES AND SERVICES SAY" if document.services else "POLICIES SAY"
        text = f"THE FLOWS OF THE SWITCHES DO NOT DO WHAT THE {who}"
        return click.style(text, fg="red", bold=True)
    return click.style("whether the flows of the switches agree cannot be told", fg="red")


def _answer(answer: Answer) -> Iterator[str]:
    port = "" if answer.port is None else f" port {answer.port}"
    verdict = (
        click.style("allowed", fg="green") if answer.allowed else click.style("denied", fg="yellow")
    )
    yield f"{answer.family}, {answer.source} to {answer.destination}{port}: {verdict}"
    yield from decided_lines("egress", answer.egress)
    yield from decided_lines("ingress", answer.ingress)
    yield from flows_lines(answer.flows)
