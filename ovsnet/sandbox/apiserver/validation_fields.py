"""What fields must be that several kinds have: ports, names, labels, selectors, addresses."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

from ovsnet.sandbox.apiserver.causes import forbidden, required, unsupported, wrong
from ovsnet.sandbox.apiserver.kinds import Object
from ovsnet.sandbox.apiserver.selectors import is_label_value, is_qualified_name
from ovsnet.sandbox.apiserver.status import Cause

PROTOCOLS = ("TCP", "UDP", "SCTP")

_LINK_MULTICAST = (ip_network("224.0.0.0/24"), ip_network("ff02::/16"))

_CIDR = re.compile(r"[^%/]+/[0-9]{1,3}", re.ASCII)
_PORT_NAME = re.compile(r"(?=.*[a-z])[a-z0-9]+(?:-[a-z0-9]+)*", re.ASCII)
_LONGEST_PORT_NAME = 15
_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", re.ASCII)
_OLD_DNS_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?", re.ASCII)
_SUBDOMAIN = re.compile(
    r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", re.ASCII
)
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


def label_problem(name: str, rfc: str = "1123") -> str:
    """Why a name is no label of a domain name (RFC 1123 or, as services' names, 1035); or ""."""
    if len(name) > 63:
        return "must be no more than 63 characters"
    if (_OLD_DNS_LABEL if rfc == "1035" else _DNS_LABEL).fullmatch(name):
        return ""
    return (
        f"a lowercase RFC {rfc} label must consist of lower case alphanumeric characters "
        "or '-', and must start and end with an alphanumeric character"
    )


def subdomain_problem(name: str) -> str:
    """Why a name is no domain name (RFC 1123); empty if it is one."""
    if len(name) > 253:
        return "must be no more than 253 characters"
    if _SUBDOMAIN.fullmatch(name):
        return ""
    return (
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, "
        "'-' or '.', and must start and end with an alphanumeric character"
    )


def dns_label(field: str, name: str) -> Iterator[Cause]:
    """A label of a domain name."""
    problem = label_problem(name)
    if problem:
        yield wrong(field, name, problem)


def subdomain(field: str, name: str) -> Iterator[Cause]:
    """A domain name."""
    problem = subdomain_problem(name)
    if problem:
        yield wrong(field, name, problem)


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


def parsed_address(text: str) -> IPv4Address | IPv6Address | None:
    """An address as the API reads it, None if it is none: zeros may lead IPv4's numbers, and an
    IPv4 address may be written as one of IPv6 (Go's net.ParseIP, and ParseIPSloppy before it).
    """
    numbers = text.split(".")
    if all(number.isascii() and number.isdecimal() for number in numbers):
        text = ".".join(str(int(number)) for number in numbers)
    try:
        found = ip_address("" if "%" in text else text)
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def address(field: str, text: str) -> Iterator[Cause]:
    """An address of either family."""
    if parsed_address(text) is None:
        yield wrong(field, text, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")


def endpoint_address(field: str, text: str) -> Iterator[Cause]:
    """An address that is more than its host's or its link's own (ValidateEndpointIP)."""
    found = parsed_address(text)
    if found is None:
        yield from address(field, text)
    elif found.is_unspecified:
        yield wrong(field, text, f"may not be unspecified ({text})")
    elif found.is_loopback:
        yield wrong(field, text, "may not be in the loopback range (127.0.0.0/8, ::1/128)")
    elif found.is_link_local:
        yield wrong(field, text, "may not be in the link-local range (169.254.0.0/16, fe80::/10)")
    elif any(found in group for group in _LINK_MULTICAST if group.version == found.version):
        yield wrong(
            field, text, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"
        )


def labels(field: str, given: Mapping[str, str]) -> Iterator[Cause]:
    """Labels."""
    for key in given:
        yield from qualified_name(field, key)
    for value in given.values():
        yield from _label_value(field, value)


def qualified_name(field: str, name: str) -> Iterator[Cause]:
    """A name with an optional prefix, as labels' keys are."""
    if not is_qualified_name(name):
        text = "name part must consist of alphanumeric characters, '-', '_' or '.'"
        yield wrong(field, name, text)


def label_selector(selected: Any, field: str) -> Iterator[Cause]:
    """A LabelSelector, if it is given."""
    if not isinstance(selected, dict):
        return
    place = f"{field}.matchLabels"
    for key, value in selected.get("matchLabels", {}).items():
        yield from qualified_name(place, key)
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
    yield from qualified_name(f"{field}.key", requirement.get("key", ""))
    for index, value in enumerate(values):
        yield from _label_value(f"{field}.values[{index}]", value)


def _label_value(field: str, value: str) -> Iterator[Cause]:
    if not is_label_value(value):
        yield wrong(
            field,
            value,
            "a valid label must be an empty string or consist of "
            "alphanumeric characters, '-', '_' or '.', and must start and end with an "
            "alphanumeric character, with no more than 63 characters",
        )
