"""Flows to text, in the syntax that `ovs-ofctl add-flow` reads and `dump-flows` writes."""

from __future__ import annotations

from ovsnet.flows.fields import Field
from ovsnet.flows.flow import (
    Action,
    Conjunction,
    Ct,
    DecTtl,
    Flow,
    Goto,
    Group,
    HashSource,
    InPort,
    Learn,
    Match,
    Move,
    Nat,
    NatKind,
    Output,
    OutputField,
    Resubmit,
    SetField,
    Subfield,
    Term,
)
from ovsnet.flows.text.names import (
    LEARN_NAMES,
    MATCH_NAMES,
    MATCH_ORDER,
    OXM_NAMES,
    PORTS,
    SET_NAMES,
    SHORTHANDS,
)
from ovsnet.flows.text.values import (
    DEFAULT_PRIORITY,
    PortNames,
    print_address,
    print_match_value,
    print_port,
    print_value,
    quoted,
)

_ORDER = {field: place for place, field in enumerate(MATCH_ORDER)}
_NAT_WORDS = {NatKind.SOURCE: "src", NatKind.DESTINATION: "dst"}


def print_flow(flow: Flow, ports: PortNames | None = None) -> str:
    """The flow as `ovs-ofctl --names --no-stats dump-flows` prints it, on one line.

    Tables are named; ports are where `ports` has their names. The priority is always printed, the
    cookie unless it is zero. `ovs-ofctl add-flow` accepts the line if the switch knows the names.
    """
    cookie = f"cookie={flow.cookie:#x}, " if flow.cookie else ""
    terms = "".join(f",{text}" for text in _terms(flow.match, ports or {}))
    return (
        f"{cookie}table={quoted(flow.table.text)}, priority={flow.priority}{terms}"
        f" actions={print_actions(flow.actions, ports)}"
    )


def print_match(match: Match, ports: PortNames | None = None) -> str:
    """A match alone; empty if it matches every packet."""
    return ",".join(_terms(match, ports or {}))


def print_actions(actions: tuple[Action, ...], ports: PortNames | None = None) -> str:
    """Actions alone; `drop` if there are none."""
    names = ports or {}
    return ",".join(print_action(action, names) for action in actions) or "drop"


def print_action(action: Action, ports: PortNames) -> str:  # noqa: PLR0911, PLR0912  one form each
    """One action."""
    match action:
        case SetField():
            value = print_value(action.field, action.value, action.mask, ports)
            return f"set_field:{value}->{SET_NAMES[action.field]}"
        case Move():
            return f"move:{_subfield(action.source)}->{_subfield(action.target)}"
        case HashSource():
            how = f"nw_src,{action.basis},modulo_n,{action.of},0"
            return f"multipath({how},{_subfield(action.target)})"
        case Output():
            return _output(action.port, ports)
        case OutputField():
            return f"output:{_subfield(action.source)}"
        case InPort():
            return "IN_PORT"
        case DecTtl():
            return "dec_ttl"
        case Goto():
            return f"goto_table:{quoted(action.table.text)}"
        case Resubmit():
            return f"resubmit(,{quoted(action.table.text)})"
        case Group():
            return f"group:{action.id}"
        case Conjunction():
            return f"conjunction({action.id},{action.clause}/{action.of})"
        case Ct():
            return _ct(action, ports)
        case Learn():
            return _learn(action, ports)


def _terms(match: Match, ports: PortNames) -> list[str]:
    exact = {t.field: t.value for t in match if t.mask is None}
    ether, protocol = exact.get(Field.ETH_TYPE, 0), exact.get(Field.IP_PROTO)
    hidden: tuple[Field, ...] = (Field.ETH_TYPE, Field.IP_PROTO)
    shorthand = SHORTHANDS.get((ether, protocol))
    if shorthand is None:
        shorthand = SHORTHANDS.get((ether, None))
        hidden = (Field.ETH_TYPE,) if shorthand else ()
    texts: list[tuple[float, str]] = [
        (_place(term.field), _term(term, ports)) for term in match if term.field not in hidden
    ]
    if shorthand:
        texts.append((_ORDER[Field.ETH_TYPE], shorthand))
    return [text for _, text in sorted(texts)]


def _place(field: Field) -> float:
    # A type or protocol that has no shorthand stands where the dump has room for it.
    if field is Field.ETH_TYPE:
        return _ORDER[Field.ETH_DST] + 0.5
    if field is Field.IP_PROTO:
        return _ORDER[Field.IPV6_DST] + 0.5
    return _ORDER[field]


def _term(term: Term, ports: PortNames) -> str:
    value = print_match_value(term.field, term.value, term.mask, ports)
    return f"{MATCH_NAMES[term.field]}={value}"


def _subfield(part: Subfield) -> str:
    name = OXM_NAMES[part.field]
    if part.bits == part.field.bits:
        return f"{name}[]"
    last = part.offset + part.bits - 1
    return f"{name}[{part.offset}]" if part.bits == 1 else f"{name}[{part.offset}..{last}]"


def _output(port: int, ports: PortNames) -> str:
    if port in PORTS and port not in ports:
        return "CONTROLLER:65535" if PORTS[port] == "CONTROLLER" else PORTS[port]
    return f"output:{print_port(port, ports)}"


def _ct(action: Ct, ports: PortNames) -> str:
    parts = []
    if action.commit:
        parts.append("commit")
    if action.force:
        parts.append("force")
    if action.table is not None:
        parts.append(f"table={quoted(action.table.text)}")
    if action.zone:
        parts.append(f"zone={action.zone}")
    if action.nat is not None:
        parts.append(_nat(action.nat))
    if action.then:
        parts.append(f"exec({','.join(print_action(a, ports) for a in action.then)})")
    return f"ct({','.join(parts)})"


def _learn(action: Learn, ports: PortNames) -> str:
    parts = [f"table={quoted(action.table.text)}"]
    if action.idle:
        parts.append(f"idle_timeout={action.idle}")
    if action.priority != DEFAULT_PRIORITY:
        parts.append(f"priority={action.priority}")
    if action.cookie:
        parts.append(f"cookie={action.cookie:#x}")
    parts.append(f"limit={action.limit}")
    for term in action.where:
        value = print_value(term.field, term.value, term.mask, ports)
        parts.append(f"{LEARN_NAMES[term.field]}={value}")
    parts += (f"{OXM_NAMES[field]}[]" for field in action.same)
    value = f"{action.value:#x}" if action.value else "0"
    parts.append(f"load:{value}->{_subfield(action.target)}")
    return f"learn({','.join(parts)})"


def _nat(nat: Nat) -> str:
    if nat.kind is NatKind.RESTORE:
        return "nat"
    word = _NAT_WORDS[nat.kind]
    if nat.address is None:
        if nat.port is not None:
            raise ValueError(f"nat to port {nat.port} alone: expected an address with it")
        return f"nat({word})"
    address = print_address(nat.bits, nat.address)
    if nat.port is None:
        return f"nat({word}={address})"
    where = f"[{address}]" if nat.bits == 128 else address
    return f"nat({word}={where}:{nat.port})"
