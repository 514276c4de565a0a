"""`ovsnet explain`: a dump of flows, each with its table's purpose, its owner and a reading."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple, TextIO

import click
import msgspec

from ovsnet.cli import controller
from ovsnet.controller.status import read_owners, read_sets
from ovsnet.flows.text import parse_flow
from ovsnet.flows.words import owner_words, words
from ovsnet.names import GATEWAY_OFPORT, GATEWAY_PORT, TUNNEL_OFPORT, TUNNEL_PORT

NOTHING_READ = 1
_SECONDS = 3.0
_PORT_NAME = re.compile(
    r'(?:in_port=|output:)(?:"(?P<quoted>[^"]+)"|(?P<bare>[A-Za-z][\w.-]*)(?![\w.[-]))'
)
_FIRST_UNUSED_PORT = 1 << 24
"""Above every number that Open vSwitch gives a port: for those of which a dump has the name."""


class Explained(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line of a dump and what it means; or `error`, why it could not be read."""

    line: str
    table: str = ""
    purpose: str = ""
    priority: int | None = None
    cookie: str = ""
    owner: str = ""
    packets: str = ""
    outcome: str = ""
    seen_packets: int | None = None
    seen_bytes: int | None = None
    error: str = ""


@click.command()
@controller.option
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array, an object a line.")
@click.argument("dump", type=click.File("r", errors="replace"), default="-")
def explain(controller_url: str | None, as_json: bool, dump: TextIO) -> None:
    """Put the flows of a switch into words.

    Reads what `ovs-ofctl dump-flows br-int` prints, with or without --names, from DUMP or from
    standard input. For every flow it says what its table is for, which object the flow exists
    for, which packets it takes and what becomes of them. The objects' names come from the
    controller; without it only their sort is known.

    Exit status: 0 done; 1 not one line could be read.
    """
    if dump.isatty():
        raise click.UsageError(
            "there is nothing to read; try: ovs-ofctl dump-flows br-int | ovsnet explain"
        )
    lines = [line.strip() for line in dump if "actions=" in line]
    told = _told(controller_url) if lines else _Told()
    explained = list(explanations(lines, told.owners, told.sets))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(explained), indent=2))
    else:
        click.echo("\n\n".join(map(text, explained)))
    if all(each.error for each in explained):
        click.echo("not one line could be read as a flow", err=True)
        sys.exit(NOTHING_READ)


class _Told(NamedTuple):
    """What the controller has told: the names of owners by cookie, of sets of endpoints by id."""

    owners: Mapping[int, str] = {}
    sets: Mapping[int, str] = {}


def _told(url: str | None) -> _Told:
    """What the controller tells; nothing, and a word about it, if it is away."""
    try:
        target = controller.locate(url)
        owners = read_owners(controller.fetch(target, "/owners", _SECONDS))
        sets = read_sets(controller.fetch(target, "/sets", _SECONDS))
        return _Told(_by_number(owners), _by_number(sets))
    except (controller.UnreachableError, ValueError) as error:
        reason = error.message if isinstance(error, click.ClickException) else str(error)
        click.echo(f"owners are told by their sort alone: {reason}", err=True)
        return _Told()


def _by_number(told: Mapping[str, str]) -> dict[int, str]:
    return {int(number, 16): text for number, text in told.items()}


def explanations(
    lines: Iterable[str], owners: Mapping[int, str], sets: Mapping[int, str]
) -> Iterator[Explained]:
    """Each line of a dump with its meaning."""
    lines = list(lines)
    numbers = port_numbers(lines)
    names = {number: name for name, number in numbers.items()}
    for line in lines:
        try:
            parsed = parse_flow(line, numbers)
        except ValueError as error:
            yield Explained(line, error=str(error))
            continue
        flow = parsed.flow
        reading = words(flow, names, sets)
        yield Explained(
            line,
            table=flow.table.text,
            purpose=flow.table.purpose,
            priority=flow.priority,
            cookie=f"{flow.cookie:#x}",
            owner=owner_words(flow, owners),
            packets=reading.packets,
            outcome=reading.outcome,
            seen_packets=parsed.packets,
            seen_bytes=parsed.bytes,
        )


def port_numbers(lines: Iterable[str]) -> dict[str, int]:
    """A number for every port that the dump calls by its name."""
    numbers = {GATEWAY_PORT: GATEWAY_OFPORT, TUNNEL_PORT: TUNNEL_OFPORT}
    for line in lines:
        for found in _PORT_NAME.finditer(line):
            name = found["quoted"] or found["bare"]
            numbers.setdefault(name, _FIRST_UNUSED_PORT + len(numbers))
    return numbers


def text(each: Explained) -> str:
    """A line and its meaning, for people."""
    if each.error:
        return f"{each.line}\n    cannot be read as a flow of ovsnet: {each.error}"
    parts = {
        "table": f"{each.table}: {each.purpose}",
        "owner": each.owner,
        "takes": each.packets,
        "does": each.outcome,
        "seen": f"{each.seen_packets} packets, {each.seen_bytes} bytes",
    }
    return "\n".join([each.line, *(f"    {name:<7}{value}" for name, value in parts.items())])
