"""Label and field selectors (API concepts, "Labels and Selectors" and "Field Selectors")."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum

from ovsnet.sandbox.apiserver.kinds import Object
from ovsnet.sandbox.apiserver.status import bad_request

LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
"""What a label's value may be; also at most 63 characters."""

_NAME = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_DOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_TOKEN = re.compile(r"\s*(==|!=|=|!|,|\(|\)|>|<|[^\s,()=!<>]+)")
_INTEGER = re.compile(r"[+-]?[0-9]+")


class Operator(StrEnum):
    """How a requirement compares."""

    IN = "in"
    NOT_IN = "notin"
    EXISTS = "exists"
    DOES_NOT_EXIST = "!"
    GREATER = ">"
    LESS = "<"


@dataclass(frozen=True)
class Requirement:
    """One condition on one label or field."""

    key: str
    operator: Operator
    values: frozenset[str] = frozenset()

    def matches(self, values: Mapping[str, str]) -> bool:
        """Whether a set of labels or fields fulfils the condition."""
        value = values.get(self.key)
        match self.operator:
            case Operator.IN:
                return value in self.values
            case Operator.NOT_IN:
                return value not in self.values
            case Operator.EXISTS:
                return value is not None
            case Operator.DOES_NOT_EXIST:
                return value is None
        if value is None or not _INTEGER.fullmatch(value):
            return False
        (limit,) = self.values
        return (
            int(value) > int(limit)
            if self.operator is Operator.GREATER
            else (int(value) < int(limit))
        )


@dataclass(frozen=True)
class Selector:
    """Conditions that must all hold; with none of them it selects everything."""

    requirements: tuple[Requirement, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.requirements)

    def matches(self, values: Mapping[str, str]) -> bool:
        """Whether a set of labels or fields is selected."""
        return all(requirement.matches(values) for requirement in self.requirements)

    def exactly(self, key: str) -> str | None:
        """The one value that `key` must have, if the selector says so."""
        for requirement in self.requirements:
            single = requirement.operator is Operator.IN and len(requirement.values) == 1
            if requirement.key == key and single:
                return next(iter(requirement.values))
        return None


EVERYTHING = Selector()


def is_qualified_name(text: str) -> bool:
    """Whether a text may be a label's key: an optional DNS prefix, `/`, a name."""
    prefix, slash, name = text.rpartition("/")
    if slash and not (_DOMAIN.fullmatch(prefix) and len(prefix) <= 253):
        return False
    return bool(_NAME.fullmatch(name)) and len(name) <= 63


def is_label_value(text: str) -> bool:
    """Whether a text may be a label's value."""
    return bool(LABEL_VALUE.fullmatch(text)) and len(text) <= 63


class _Tokens:
    """The words of a label selector, read one after the other."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._tokens: list[str] = []
        position = 0
        while text[position:].strip():
            match = _TOKEN.match(text, position)
            if match is None:
                raise self.error(f"unexpected {text[position:]!r}")
            self._tokens.append(match[1])
            position = match.end()
        self._tokens.reverse()

    def error(self, what: str) -> Exception:
        return bad_request(f"unable to parse requirement: {what} in selector {self.text!r}")

    def peek(self) -> str:
        return self._tokens[-1] if self._tokens else ""

    def next(self) -> str:
        return self._tokens.pop() if self._tokens else ""

    def expect(self, token: str) -> None:
        found = self.next()
        if found != token:
            raise self.error(f"found {found!r}, expected {token!r}")


def _key(tokens: _Tokens) -> str:
    key = tokens.next()
    if not is_qualified_name(key):
        raise tokens.error(f"{key!r} is no label key")
    return key


def _value(tokens: _Tokens) -> str:
    value = "" if tokens.peek() in (",", ")", "") else tokens.next()
    if not is_label_value(value):
        raise tokens.error(f"{value!r} is no label value")
    return value


def _values(tokens: _Tokens) -> frozenset[str]:
    tokens.expect("(")
    values = {_value(tokens)}
    while tokens.peek() == ",":
        tokens.next()
        values.add(_value(tokens))
    tokens.expect(")")
    return frozenset(values)


def _requirement(tokens: _Tokens) -> Requirement:
    if tokens.peek() == "!":
        tokens.next()
        return Requirement(_key(tokens), Operator.DOES_NOT_EXIST)
    key = _key(tokens)
    match tokens.peek():
        case "" | ",":
            return Requirement(key, Operator.EXISTS)
        case "=" | "==":
            tokens.next()
            return Requirement(key, Operator.IN, frozenset({_value(tokens)}))
        case "!=":
            tokens.next()
            return Requirement(key, Operator.NOT_IN, frozenset({_value(tokens)}))
        case "in" | "notin" as word:
            tokens.next()
            return Requirement(key, Operator(word), _values(tokens))
        case ">" | "<" as sign:
            tokens.next()
            value = tokens.next()
            if not _INTEGER.fullmatch(value):
                raise tokens.error(f"{value!r} is no integer")
            return Requirement(key, Operator(sign), frozenset({value}))
        case other:
            raise tokens.error(f"found {other!r}, expected an operator")


def parse_labels(text: str) -> Selector:
    """Read a label selector: `a=b,c in (d,e),!f`. Raises ApiError (400)."""
    tokens = _Tokens(text)
    if not tokens.peek():
        return EVERYTHING
    requirements = [_requirement(tokens)]
    while tokens.peek():
        tokens.expect(",")
        requirements.append(_requirement(tokens))
    return Selector(tuple(requirements))


def parse_fields(text: str, known: Collection[str]) -> Selector:
    """Read a field selector: `spec.nodeName=n1,status.phase!=Failed`. Raises ApiError (400).

    `known` are the fields that the kind supports; others are refused, as a real server does.
    """
    requirements = []
    for term in filter(None, text.split(",")):
        match = re.fullmatch(r"([^=!]+)(==|!=|=)(.*)", term)
        if match is None:
            raise bad_request(f"invalid selector: {text!r}; can't understand {term!r}")
        key, sign, value = match.groups()
        if key not in known:
            raise bad_request(f"field label not supported: {key}")
        operator = Operator.NOT_IN if sign == "!=" else Operator.IN
        requirements.append(Requirement(key, operator, frozenset({value})))
    return Selector(tuple(requirements))


def from_label_selector(selector: Object) -> Selector:
    """The selector that a LabelSelector object (matchLabels, matchExpressions) means."""
    requirements = [
        Requirement(key, Operator.IN, frozenset({value}))
        for key, value in selector.get("matchLabels", {}).items()
    ]
    operators = {
        "In": Operator.IN,
        "NotIn": Operator.NOT_IN,
        "Exists": Operator.EXISTS,
        "DoesNotExist": Operator.DOES_NOT_EXIST,
        "Gt": Operator.GREATER,
        "Lt": Operator.LESS,
    }
    for expression in selector.get("matchExpressions", ()):
        operator = operators.get(expression.get("operator", ""))
        if operator is None:
            raise bad_request(f"{expression.get('operator')!r} is not a valid selector operator")
        values = frozenset(expression.get("values", ()))
        requirements.append(Requirement(expression.get("key", ""), operator, values))
    return Selector(tuple(requirements))
