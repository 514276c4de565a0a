"""Actions from text, as `ovs-ofctl` prints and accepts them (ovs-actions(7))."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from ovsnet.flows.fields import Field
from ovsnet.flows.flow import (
    Action,
    Conjunction,
    Ct,
    DecTtl,
    Goto,
    Group,
    HashSource,
    InPort,
    Learn,
    Move,
    Nat,
    NatKind,
    Output,
    OutputField,
    Resubmit,
    SetField,
    Subfield,
    Term,
    whole,
)
from ovsnet.flows.text.names import FIELDS, PORT_NUMBERS
from ovsnet.flows.text.values import (
    DEFAULT_PRIORITY,
    PortNumbers,
    parse_address,
    parse_number,
    parse_port,
    parse_table,
    parse_value,
)
from ovsnet.names import Table

_PLAIN = r'[^(),\s"]|"[^"]*"'
_DEEP = rf"\((?:{_PLAIN}|[,\s]|\((?:{_PLAIN}|[,\s]|\((?:{_PLAIN}|[,\s])*\))*\))*\)"
_ONE = re.compile(rf"((?:{_PLAIN}|{_DEEP})+)\s*(?:,\s*|$)")
_CALL = re.compile(r"(\w+)\((.*)\)", re.DOTALL)
_SUBFIELD = re.compile(r"(\w+)(\[(?:(\d+)(?:\.\.(\d+))?)?\])?")
_CLAUSE = re.compile(r"\s*(\d+)\s*,\s*(\d+)\s*/\s*(\d+)\s*")
_HASH = re.compile(r"nw_src\s*,\s*(\d+)\s*,\s*modulo_n\s*,\s*(\d+)\s*,\s*\d+\s*,\s*(\S+)\s*")
_NAT_TARGET = re.compile(r"(?:\[(?P<six>[^\]]+)\]|(?P<four>[0-9.]+))(?::(?P<port>\d+))?")
_LEARN_BITS = {"idle_timeout": 16, "priority": 16, "cookie": 64, "limit": 32}
_CONTROLLER = re.compile(r"CONTROLLER(?::\d+)?", re.IGNORECASE)


def parse_actions(text: str, ports: PortNumbers) -> tuple[Action, ...]:
    """The actions of a flow, without the leading `actions=`.

    Raises:
        ValueError: an action cannot be read, or is none of those that our flows use; the message
            has it and what was expected.
    """
    words = list(_split(text))
    if words in ([], ["drop"]):
        return ()
    return tuple(_action(word, ports) for word in words)


def _split(text: str) -> Iterator[str]:
    at = len(text) - len(text.lstrip())
    while at < len(text):
        found = _ONE.match(text, at)
        if found is None:
            raise ValueError(f"{text[at:]!r}: expected an action")
        yield found[1]
        at = found.end()


def _action(word: str, ports: PortNumbers) -> Action:
    try:
        return _read(word, ports)
    except ValueError as error:
        raise ValueError(f"action {word}: {error}") from error


def _read(word: str, ports: PortNumbers) -> Action:
    if word in ("dec_ttl", "dec_ttl(0)"):
        return DecTtl()
    if word.upper() == "IN_PORT":
        return InPort()
    if _CONTROLLER.fullmatch(word):
        return Output(PORT_NUMBERS["CONTROLLER"])
    if word.upper() in PORT_NUMBERS or word.isdecimal():
        return Output(parse_port(word, ports))
    call = _CALL.fullmatch(word)
    name, argument = (call[1], call[2]) if call else word.partition(":")[::2]
    reader = _READERS.get(name)
    if reader is None:
        known = ", ".join(("drop", "dec_ttl", "IN_PORT", *_READERS))
        raise ValueError(f"expected one of {known}")
    return reader(argument, ports)


def _output(text: str, ports: PortNumbers) -> Action:
    if text.upper() == "IN_PORT":
        return InPort()
    part = _SUBFIELD.fullmatch(text)
    if part and part[1] in FIELDS and part[1] not in ports:
        return OutputField(_subfield(text))
    return Output(parse_port(text, ports))


def _set_field(text: str, ports: PortNumbers) -> SetField:
    value_text, arrow, target = text.rpartition("->")
    if not arrow:
        raise ValueError("expected value->field")
    part = _subfield(target)
    field = part.field
    if part.bits == field.bits:
        value, mask = parse_value(field, value_text, ports)
        return _canonical(field, value, mask)
    return _load(text, ports)


def _load(text: str, _: PortNumbers) -> SetField:
    value_text, arrow, target = text.rpartition("->")
    if not arrow:
        raise ValueError("expected value->field[first..last]")
    part = _subfield(target)
    value = parse_number(value_text, part.bits)
    mask = (1 << part.bits) - 1 << part.offset
    return _canonical(part.field, value << part.offset, mask)


def _canonical(field: Field, value: int, mask: int | None) -> SetField:
    if mask is None or mask == field.full:
        return SetField(field, value)
    if value & ~mask:
        raise ValueError(f"{value:#x}/{mask:#x}: expected no bits outside the mask")
    return SetField(field, value, mask)


def _move(text: str, _: PortNumbers) -> Move:
    source, arrow, target = text.partition("->")
    if not arrow:
        raise ValueError("expected field[first..last]->field[first..last]")
    move = Move(_subfield(source), _subfield(target))
    if move.source.bits != move.target.bits:
        raise ValueError(f"{move.source.bits} bits do not fit {move.target.bits}")
    return move


def _multipath(text: str, _: PortNumbers) -> HashSource:
    found = _HASH.fullmatch(text)
    if found is None:
        raise ValueError("expected multipath(nw_src,basis,modulo_n,links,0,field[first..last])")
    part = _subfield(found[3])
    made = HashSource(part, parse_number(found[2], 17), parse_number(found[1], 16))
    if not 1 <= made.of <= 1 << min(part.bits, 16):
        raise ValueError(f"{made.of} links: expected from 1 up to what the field holds")
    return made


def _goto(text: str, _: PortNumbers) -> Goto:
    return Goto(parse_table(text))


def _resubmit(text: str, _: PortNumbers) -> Resubmit:
    port, comma, table = text.partition(",")
    if not comma or port.strip() not in ("", "in_port"):
        raise ValueError("expected resubmit(,table)")
    return Resubmit(parse_table(table.strip()))


def _group(text: str, _: PortNumbers) -> Group:
    return Group(parse_number(text, 32))


def _conjunction(text: str, _: PortNumbers) -> Conjunction:
    found = _CLAUSE.fullmatch(text)
    if found is None:
        raise ValueError("expected conjunction(id,clause/clauses)")
    made = Conjunction(parse_number(found[1], 32), int(found[2]), int(found[3]))
    if not 1 <= made.clause <= made.of or not 2 <= made.of <= 64:
        raise ValueError("expected a clause from 1 up, of 2 to 64 clauses")
    return made


def _ct(text: str, ports: PortNumbers) -> Ct:
    given: dict[str, str] = {}
    for word in _split(text):
        call = _CALL.fullmatch(word)
        name, argument = (call[1], call[2]) if call else word.partition("=")[::2]
        if name not in ("commit", "force", "table", "zone", "nat", "exec"):
            raise ValueError(f"{word}: expected commit, force, table, zone, nat or exec")
        given[name] = argument
    return Ct(
        zone=parse_number(given.get("zone", "0"), 16),
        table=parse_table(given["table"]) if "table" in given else None,
        commit="commit" in given,
        force="force" in given,
        nat=_nat(given["nat"]) if "nat" in given else None,
        then=tuple(_within(word, ports) for word in _split(given.get("exec", ""))),
    )


def _within(word: str, ports: PortNumbers) -> SetField | Move:
    action = _action(word, ports)
    if not isinstance(action, SetField | Move):
        raise ValueError(f"exec({word}): expected set_field, load or move")
    return action


def _nat(text: str) -> Nat:
    if not text:
        return Nat()
    word, equals, target = text.partition("=")
    kinds = {"src": NatKind.SOURCE, "dst": NatKind.DESTINATION}
    if word not in kinds:
        raise ValueError(f"nat({text}): expected src or dst")
    if not equals:
        return Nat(kinds[word])
    found = _NAT_TARGET.fullmatch(target)
    if found is None:
        value, bits = parse_address(target)
        return Nat(kinds[word], value, bits)
    value, bits = parse_address(found["six"] or found["four"])
    port = parse_number(found["port"], 16) if found["port"] else None
    return Nat(kinds[word], value, bits, port)


def _learn(text: str, ports: PortNumbers) -> Learn:
    numbers = dict.fromkeys(_LEARN_BITS, 0) | {"priority": DEFAULT_PRIORITY}
    table: Table | None = None
    same: list[Field] = []
    where: list[Term] = []
    writes: list[tuple[Subfield, int]] = []
    for word in _split(text):
        name, equals, value = word.partition("=")
        if name == "table":
            table = parse_table(value)
        elif name in _LEARN_BITS:
            numbers[name] = parse_number(value, _LEARN_BITS[name])
        elif equals:
            where.append(_learnt_value(name, value, ports))
        elif word.startswith("load:"):
            constant, _, target = word.removeprefix("load:").rpartition("->")
            part = _subfield(target)
            writes.append((part, parse_number(constant, part.bits)))
        else:
            same.append(_learnt_field(word))
    if table is None or len(writes) != 1 or not numbers["limit"]:
        raise ValueError("expected a table, a limit and one load:value->field")
    ((written, number),) = writes
    return Learn(
        table,
        numbers["priority"],
        tuple(same),
        tuple(where),
        written,
        number,
        numbers["idle_timeout"],
        numbers["limit"],
        numbers["cookie"],
    )


def _learnt_value(name: str, text: str, ports: PortNumbers) -> Term:
    if name not in FIELDS:
        raise ValueError(
            f"{name}={text}: expected idle_timeout, priority, cookie, limit or a field"
        )
    field = FIELDS[name]
    value, mask = parse_value(field, text, ports)
    if mask is not None:
        raise ValueError(f"{name}={text}: expected no mask")
    return Term(field, value)


def _learnt_field(text: str) -> Field:
    part = _subfield(text)
    if part != whole(part.field):
        raise ValueError(f"{text}: expected a whole field")
    return part.field


def _subfield(text: str) -> Subfield:
    found = _SUBFIELD.fullmatch(text.strip())
    if found is None or found[1] not in FIELDS:
        raise ValueError(f"{text}: expected a field, or bits of one as in reg0[0..15]")
    field = FIELDS[found[1]]
    if found[3] is None:
        return whole(field)
    first = int(found[3])
    last = int(found[4]) if found[4] else first
    if not first <= last < field.bits:
        raise ValueError(f"{text}: expected bits between 0 and {field.bits - 1}")
    return Subfield(field, first, last - first + 1)


_READERS: dict[str, Callable[[str, PortNumbers], Action]] = {
    "output": _output,
    "set_field": _set_field,
    "load": _load,
    "move": _move,
    "multipath": _multipath,
    "goto_table": _goto,
    "resubmit": _resubmit,
    "group": _group,
    "conjunction": _conjunction,
    "ct": _ct,
    "learn": _learn,
}
