"""What fields must be that several kinds have: ports, words of a few, selectors, networks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import ip_network
from typing import Any

from ovsnet.sandbox.apiserver.causes import forbidden, required, unsupported, wrong
from ovsnet.sandbox.apiserver.kinds import Object
from ovsnet.sandbox.apiserver.selectors import is_label_value, is_qualified_name
from ovsnet.sandbox.apiserver.status import Cause

PROTOCOLS = ("TCP", "UDP", "SCTP")

_CIDR = re.compile(r"[^%/]+/[0-9]{1,3}", re.ASCII)
_PORT_NAME = re.compile(r"(?=.*[a-z])[a-z0-9]+(?:-[a-z0-9]+)*", re.ASCII)
_LONGEST_PORT_NAME = 15
_WITH_VALUES = ("In", "NotIn")
_WITHOUT_VALUES = ("Exists", "DoesNotExist")


def port_number(field: str, value: Any) -> Iterator[Cause]:
    """A port's number, or anything that is no number."""
    if isinstance(value, int) and not 1 <= value <= 65535:
        yield wrong(field, value, "must be between 1 and 65535, inclusive")


def port_name(field: str, value: str) -> Iterator[Cause]:
    """The name of a port."""
    if len(value) > _LONGEST_PORT_NAME:
        yield wrong(field, value, f"must be no more than {_LONGEST_PORT_NAME} characters")
    elif not _PORT_NAME.fullmatch(value):
        yield wrong(
            field,
            value,
            "must contain only alpha-numeric characters (a-z, 0-9), and single hyphens between "
            "them, and at least one letter",
        )


def one_of(field: str, value: Any, known: tuple[str, ...]) -> Iterator[Cause]:
    """One of a few words, if it is given."""
    if value is not None and value not in known:
        yield unsupported(field, value, known)


def network(field: str, text: str) -> Iterator[Cause]:
    """A network; host bits do not matter."""
    try:
        ip_network(text if _CIDR.fullmatch(text) else "", strict=False)
    except ValueError:
        yield wrong(field, text, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)")


def label_selector(selected: Any, field: str) -> Iterator[Cause]:
    """A LabelSelector, if it is given."""
    if not isinstance(selected, dict):
        return
    place = f"{field}.matchLabels"
    for key, value in selected.get("matchLabels", {}).items():
        yield from _label_key(place, key)
        yield from _label_value(place, value)
    for index, requirement in enumerate(selected.get("matchExpressions", ())):
        yield from _requirement(requirement, f"{field}.matchExpressions[{index}]")


def _requirement(requirement: Object, field: str) -> Iterator[Cause]:
    operator, values = requirement.get("operator", ""), requirement.get("values", ())
    if operator in _WITH_VALUES and not values:
        text = "must be specified when `operator` is 'In' or 'NotIn'"
        yield required(f"{field}.values", text)
    elif operator in _WITHOUT_VALUES and values:
        text = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
        yield forbidden(f"{field}.values", text)
    elif operator not in _WITH_VALUES + _WITHOUT_VALUES:
        yield wrong(f"{field}.operator", operator, "not a valid selector operator")
    yield from _label_key(f"{field}.key", requirement.get("key", ""))
    for index, value in enumerate(values):
        yield from _label_value(f"{field}.values[{index}]", value)


def _label_key(field: str, key: str) -> Iterator[Cause]:
    if not is_qualified_name(key):
        text = "name part must consist of alphanumeric characters, '-', '_' or '.'"
        yield wrong(field, key, text)


def _label_value(field: str, value: str) -> Iterator[Cause]:
    if not is_label_value(value):
        yield wrong(
            field,
            value,
            "a valid label must be an empty string or consist of "
            "alphanumeric characters, '-', '_' or '.'",
        )
