"""From the API server's bytes to objects of the model: pages of lists and lines of watches.

One object that cannot be read spoils no other: it is passed on without a value, and with the
problem that was found.
"""

from __future__ import annotations

import re
from typing import Generic, TypeAlias

import msgspec

from ovsnet.api.objects import Bare, Key, Kind, Metadata, Page, Problem, ValueT, WireT, name_of


class UnreadableError(Exception):
    """A page or a line of a watch is not what the API sends; the message says how."""


class Read(msgspec.Struct, Generic[ValueT], frozen=True):
    """An object as it was read. No value: treat it as absent."""

    key: Key
    version: int
    uid: str
    value: ValueT | None
    problems: tuple[Problem, ...] = ()


class Unusable(msgspec.Struct, frozen=True):
    """An object of which not even the name and the version can be read."""

    name: str
    problem: Problem


class ReadPage(msgspec.Struct, Generic[ValueT], frozen=True):
    """A page of a list, the version of the list, and the token that asks for the next page."""

    version: int
    next: str
    objects: tuple[Read[ValueT], ...]
    unusable: tuple[Unusable, ...] = ()


class Happened(msgspec.Struct, Generic[ValueT], frozen=True):
    """A watch says that an object was written or deleted."""

    object: Read[ValueT]
    deleted: bool


class Bookmark(msgspec.Struct, frozen=True):
    """A watch says that everything up to this version has been told."""

    version: int


class Refused(msgspec.Struct, frozen=True):
    """The API server's Status: an HTTP status code and words."""

    code: int
    message: str


Line: TypeAlias = Happened[ValueT] | Bookmark | Refused | Unusable


class _Status(msgspec.Struct, frozen=True):
    code: int = 0
    message: str = ""


class _Line(msgspec.Struct, frozen=True):
    type: str
    object: msgspec.Raw


class _Place(msgspec.Struct, frozen=True, rename="camel"):
    resource_version: str


class _Bookmark(msgspec.Struct, frozen=True):
    metadata: _Place


_raw_page = msgspec.json.Decoder(Page[msgspec.Raw]).decode
_line = msgspec.json.Decoder(_Line).decode
_bookmark = msgspec.json.Decoder(_Bookmark).decode
_status = msgspec.json.Decoder(_Status).decode
_bare = msgspec.json.Decoder(Bare).decode
_PATH = re.compile(r"^(?P<reason>.*) - at `\$\.?(?P<field>.*)`$", re.DOTALL)


def read_page(kind: Kind[WireT, ValueT], body: bytes) -> ReadPage[ValueT]:
    """Reads one page of a list.

    Raises:
        UnreadableError: it is not a list, or its resourceVersion is no number.
    """
    try:
        page = kind.decode_page(body)
        place = page.metadata
        found = [_converted(kind, wire) for wire in page.items or ()]
    except msgspec.MsgspecError:
        # Some object is at fault, or all of it: each one by itself will tell.
        try:
            raw = _raw_page(body)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise UnreadableError(f"the list cannot be read: {error}") from None
        place = raw.metadata
        found = [_object(kind, item) for item in raw.items or ()]
    return ReadPage(
        _version(place.resource_version),
        place.continue_token,
        tuple(read for read in found if isinstance(read, Read)),
        tuple(read for read in found if isinstance(read, Unusable)),
    )


def read_line(kind: Kind[WireT, ValueT], line: bytes) -> Line[ValueT]:
    """Reads one event of a watch.

    Raises:
        UnreadableError: it is none, or of an unknown type.
    """
    try:
        event = _line(line)
        if event.type == "BOOKMARK":
            return Bookmark(_version(_bookmark(event.object).metadata.resource_version))
        if event.type == "ERROR":
            status = _status(event.object)
            return Refused(status.code, status.message)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UnreadableError(f"the watch brought what is no event: {error}") from None
    if event.type not in ("ADDED", "MODIFIED", "DELETED"):
        raise UnreadableError(f"the watch brought an event of unknown type {event.type!r}")
    found = _object(kind, event.object)
    if isinstance(found, Unusable):
        return found
    return Happened(found, event.type == "DELETED")


def read_refusal(code: int, body: bytes) -> Refused:
    """Reads the body of an answer that is no success; proxies send bodies of their own."""
    try:
        message = _status(body).message
    except (msgspec.MsgspecError, UnicodeDecodeError):
        message = ""
    return Refused(code, message)


def _object(kind: Kind[WireT, ValueT], raw: msgspec.Raw) -> Read[ValueT] | Unusable:
    try:
        return _converted(kind, kind.decode(raw))
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        problem = _problem(error)
    try:
        metadata = _bare(raw).metadata
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return Unusable("(no name)", problem)
    return _read(kind, metadata, None, (problem,))


def _converted(kind: Kind[WireT, ValueT], wire: WireT) -> Read[ValueT] | Unusable:
    converted = kind.convert(wire)
    return _read(kind, wire.metadata, converted.value, converted.problems)


def _read(
    kind: Kind[WireT, ValueT],
    metadata: Metadata,
    value: ValueT | None,
    problems: tuple[Problem, ...],
) -> Read[ValueT] | Unusable:
    key = kind.key(metadata)
    try:
        version = _version(metadata.resource_version)
    except UnreadableError as error:
        return Unusable(name_of(key), Problem("metadata.resourceVersion", str(error)))
    return Read(key, version, metadata.uid, value, problems)


def _version(text: str) -> int:
    """A resourceVersion as a number, which those of the API's own kinds are (KEP-5504)."""
    if not (text.isascii() and text.isdecimal()):
        raise UnreadableError(f"version {text!r}: expected a decimal number")
    return int(text)


def _problem(error: Exception) -> Problem:
    """The field and the reason, from msgspec's "reason - at `$.path`"."""
    found = _PATH.match(str(error))
    if found is None:
        return Problem("(all)", str(error))
    return Problem(found["field"], found["reason"])
