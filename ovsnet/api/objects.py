"""What the objects of every kind have in common on their way from the API to the model.

A kind is one module (`node`, `pod`, `namespace`): typed structs of only the fields that are
needed, one pure function from them to the model's value, and one `Kind` that names both.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from socket import AF_INET, AF_INET6, inet_pton
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import msgspec

from ovsnet.model import IPAddress, IPNetwork, parse_network

Key: TypeAlias = str | tuple[str, str]
"""What names an object within its kind: its name, or namespace and name (such as a `PodRef`)."""


def name_of(key: Key) -> str:
    """The key as people write it: a name, or `namespace/name`."""
    return key if isinstance(key, str) else "/".join(key)


Labels: TypeAlias = tuple[tuple[str, str], ...]


class Metadata(msgspec.Struct, frozen=True, rename="camel"):
    """The part of ObjectMeta that is needed; Go writes an empty map or list as null."""

    name: str
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    creation_timestamp: str = ""
    labels: dict[str, str] | None = None


class Problem(msgspec.Struct, frozen=True):
    """A field of an object that does not say what it should, in words."""

    field: str
    reason: str


def missing(**metadata: str) -> Problem | None:
    """A problem with the first of these fields of an object's metadata that is empty, if any is."""
    empty = next((name for name, text in metadata.items() if not text), None)
    return None if empty is None else Problem(f"metadata.{empty}", "missing")


class Wire(Protocol):
    """An object as it comes over the wire."""

    @property
    def metadata(self) -> Metadata:
        """The object's metadata."""


WireT = TypeVar("WireT", bound=Wire)
ValueT = TypeVar("ValueT")
ValueT_co = TypeVar("ValueT_co", covariant=True)


class Converted(msgspec.Struct, Generic[ValueT_co], frozen=True):
    """A model value and what was wrong with the object; no value means: treat it as absent."""

    value: ValueT_co | None
    problems: tuple[Problem, ...] = ()


class Kind(Generic[WireT, ValueT]):
    """A kind of objects: where the API has them, how they decode and what they become."""

    def __init__(
        self,
        name: str,
        path: str,
        wire: type[WireT],
        convert: Callable[[WireT], Converted[ValueT]],
        key: Callable[[Metadata], Key],
    ) -> None:
        self.name = name
        self.path = path
        self.convert = convert
        self.key = key
        self.decode: Callable[[bytes | msgspec.Raw], WireT] = msgspec.json.Decoder(wire).decode
        page: Any = Page[wire]  # type: ignore[valid-type]
        self.decode_page: Callable[[bytes], Page[WireT]] = msgspec.json.Decoder(page).decode

    def __repr__(self) -> str:
        return f"Kind({self.name})"


AnyKind: TypeAlias = Kind[Any, Any]


class PageMetadata(msgspec.Struct, frozen=True, rename="camel"):
    """The part of ListMeta that is needed."""

    resource_version: str
    continue_token: str = msgspec.field(default="", name="continue")


ItemT = TypeVar("ItemT")


class Page(msgspec.Struct, Generic[ItemT], frozen=True):
    """One page of a list."""

    metadata: PageMetadata
    items: list[ItemT] | None = None


class Bare(msgspec.Struct, frozen=True):
    """Any object of which nothing but the metadata can be read."""

    metadata: Metadata


def labels_of(metadata: Metadata) -> Labels:
    """The labels in the order of their keys, as the model has them."""
    return _shared_labels(tuple(sorted(metadata.labels.items()))) if metadata.labels else ()


@functools.lru_cache(maxsize=4096)
def _shared_labels(labels: Labels) -> Labels:
    """The same tuple for equal labels: the pods of a Deployment share theirs."""
    return labels


def parsed(text: str) -> IPAddress | None:
    """An address from its text, or None if it is not one.

    Lists bring tens of thousands of them: the C library parses them five times as fast as
    `ipaddress` does, and as strictly (inet_pton(3)).
    """
    try:
        if ":" in text:
            return IPv6Address(int.from_bytes(inet_pton(AF_INET6, text), "big"))
        return IPv4Address(int.from_bytes(inet_pton(AF_INET, text), "big"))
    except (OSError, ValueError):
        return None


def address(text: str, field: str, problems: list[Problem]) -> IPAddress | None:
    """An address, or None and a problem."""
    found = parsed(text)
    if found is None:
        problems.append(Problem(field, f"{text!r}: expected an IPv4 or IPv6 address"))
    return found


def network(text: str, field: str, problems: list[Problem]) -> IPNetwork | None:
    """A network in CIDR notation, or None and a problem."""
    try:
        return parse_network(text)
    except ValueError:
        expected = "expected CIDR notation without host bits, such as 10.1.2.0/24"
        problems.append(Problem(field, f"{text!r}: {expected}"))
        return None


NetT = TypeVar("NetT", IPAddress, IPNetwork)


def one_of_each_family(
    found: list[tuple[str, NetT]], problems: list[Problem] | None
) -> tuple[NetT, ...]:
    """The first value of each IP family, in order; a later one is a problem if that is asked."""
    kept: dict[int, NetT] = {}
    for field, value in found:
        first = kept.setdefault(value.version, value)
        if problems is not None and first is not value:
            reason = f"{value}: expected one of each IP family; {first} is used"
            problems.append(Problem(field, reason))
    return tuple(kept.values())
