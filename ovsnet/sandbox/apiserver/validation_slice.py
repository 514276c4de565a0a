"""What EndpointSlices must be (discovery.k8s.io/v1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ovsnet.sandbox.apiserver.causes import duplicate, required, too_many, wrong
from ovsnet.sandbox.apiserver.kinds import Object
from ovsnet.sandbox.apiserver.selectors import is_label_value
from ovsnet.sandbox.apiserver.status import Cause
from ovsnet.sandbox.apiserver.validation_fields import (
    PROTOCOLS,
    dns_label,
    endpoint_address,
    one_of,
    parsed_address,
    qualified_name,
    subdomain,
    subdomain_problem,
)

_TYPES = ("IPv4", "IPv6", "FQDN")
_MOST_ENDPOINTS = 1000
_MOST_ADDRESSES = 100
_MOST_HINTS = 8


def endpoint_slice(obj: Object) -> Iterator[Cause]:
    """What is wrong with an EndpointSlice."""
    family = obj.get("addressType", "")
    if not family:
        yield required("addressType")
    else:
        yield from one_of("addressType", family, _TYPES)
    yield from _ports(obj.get("ports", ()))
    endpoints = obj.get("endpoints", ())
    if len(endpoints) > _MOST_ENDPOINTS:
        yield too_many("endpoints", len(endpoints), _MOST_ENDPOINTS)
        return
    for index, endpoint in enumerate(endpoints):
        yield from _endpoint(endpoint, family, f"endpoints[{index}]")


def _ports(ports: Sequence[Object]) -> Iterator[Cause]:
    names: set[str] = set()
    for index, port in enumerate(ports):
        here = f"ports[{index}]"
        name = port.get("name", "")
        if name:
            yield from dns_label(f"{here}.name", name)
        if name in names:
            yield duplicate(f"{here}.name", name)
        names.add(name)
        yield from one_of(f"{here}.protocol", port.get("protocol"), PROTOCOLS)
        if "appProtocol" in port:
            yield from qualified_name(f"{here}.appProtocol", port["appProtocol"])


def _endpoint(endpoint: Object, family: str, field: str) -> Iterator[Cause]:
    here = f"{field}.addresses"
    addresses = endpoint.get("addresses", ())
    if not addresses:
        yield required(here, "must contain at least 1 address")
    elif len(addresses) > _MOST_ADDRESSES:
        yield too_many(here, len(addresses), _MOST_ADDRESSES)
    for position, text in enumerate(addresses):
        place = f"{here}[{position}]"
        if family == "FQDN":
            yield from _domain(place, text)
        elif family == "IPv4":
            yield from _ipv4(place, here, text)
        elif family == "IPv6":
            yield from _ipv6(place, here, text)
    if "nodeName" in endpoint:
        yield from subdomain(f"{field}.nodeName", endpoint["nodeName"])
    if endpoint.get("hostname"):
        yield from dns_label(f"{field}.hostname", endpoint["hostname"])
    yield from _hints(endpoint.get("hints", {}), f"{field}.hints")


def _domain(field: str, text: str) -> Iterator[Cause]:
    name = text.removesuffix(".")
    if not text:
        yield required(field)
    elif "." not in name and not subdomain_problem(name):
        yield wrong(field, name, "should be a domain with at least two segments separated by dots")
    else:
        yield from subdomain(field, name)


def _ipv4(field: str, group: str, text: str) -> Iterator[Cause]:
    found = parsed_address(text)
    if found is not None and found.version != 4:
        yield wrong(group, text, "must be an IPv4 address")
    yield from endpoint_address(field, text)


def _ipv6(field: str, group: str, text: str) -> Iterator[Cause]:
    """One of IPv6, which must be written as RFC 5952 writes it."""
    found = parsed_address(text)
    if found is not None and ":" in text and found.version != 6:
        yield wrong(field, text, "must not be an IPv4-mapped IPv6 address")
    elif found is not None and str(found) != text:
        yield wrong(field, text, f'must be in canonical form ("{found}")')
    else:
        if found is not None and found.version != 6:
            yield wrong(group, text, "must be an IPv6 address")
        yield from endpoint_address(field, text)


def _hints(hints: Object, field: str) -> Iterator[Cause]:
    for name in ("forZones", "forNodes"):
        here = f"{field}.{name}"
        entries = hints.get(name, ())
        if len(entries) > _MOST_HINTS:
            yield too_many(here, len(entries), _MOST_HINTS)
            return
        seen: set[str] = set()
        for index, entry in enumerate(entries):
            place, text = f"{here}[{index}].name", entry.get("name", "")
            if text in seen:
                yield duplicate(place, text)
            seen.add(text)
            if name == "forNodes":
                yield from subdomain(place, text)
            elif not is_label_value(text):
                yield wrong(place, text, "must be a valid label value")
