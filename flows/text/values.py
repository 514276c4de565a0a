"""One value of a field to and from text, as ovs-ofctl writes and reads it.

Whatever cannot be read raises ValueError with the text and what was expected in its place.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import TypeAlias

from ovsnet.flows.fields import Field, Form
from ovsnet.flows.text.names import CT_STATES, FLAGS, FRAGMENTS, PORT_NUMBERS, PORTS
from ovsnet.names import Table

PortNames: TypeAlias = Mapping[int, str]
PortNumbers: TypeAlias = Mapping[str, int]

DEFAULT_PRIORITY = 32768
"""Priority of a flow whose text names none (ovs-ofctl(8))."""

_TABLES = {table.text: table for table in Table}
_TABLE_LIST = tuple(Table)
# Open vSwitch knows these bits of ct_state and no others.
_CT_BITS = (1 << len(CT_STATES)) - 1
_SIGNED_FLAG = re.compile(r"([+-])([a-z]+|\[[0-9a-f]+\])")
_MAC = re.compile(r"(?:[0-9a-fA-F]{1,2}:){5}[0-9a-fA-F]{1,2}")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*")
_FRAGMENT_WORDS = {kind: word for word, kind in FRAGMENTS.items()}


def quoted(name: str) -> str:
    """A name of a port or table: in quotes where it is more than letters and digits."""
    return name if _NAME.fullmatch(name) else f'"{name}"'


def print_port(number: int, names: PortNames) -> str:
    """A port: its name where one is known, a reserved port's word, or the number."""
    if number in names:
        return quoted(names[number])
    return PORTS.get(number, str(number))


def print_match_value(field: Field, value: int, mask: int | None, ports: PortNames) -> str:
    """The right side of a term of a match."""
    if field is Field.IP_FRAG:
        return _FRAGMENT_WORDS.get((value, mask)) or _masked(f"{value}", mask)
    if field in FLAGS:
        return _print_flags(field, value, mask)
    if field is Field.CT_ZONE:
        return str(value)
    if field is Field.ETH_TYPE:
        return f"{value:#06x}"
    if field.form is Form.DECIMAL and mask is not None:
        return f"{value:#x}/{mask:#x}"
    return print_value(field, value, mask, ports)


def print_value(field: Field, value: int, mask: int | None, ports: PortNames) -> str:
    """A value as set_field has it: value, or value and mask."""
    match field.form:
        case Form.MAC:
            return _print_mac(value) + ("" if mask is None else f"/{_print_mac(mask)}")
        case Form.IPV4 | Form.IPV6:
            return _print_address(field.bits, value, mask)
        case Form.PORT:
            return print_port(value, ports)
    decimal = field.form is Form.DECIMAL
    return _masked(str(value) if decimal or value == 0 else f"{value:#x}", mask)


def print_address(bits: int, value: int) -> str:
    """An IPv4 (32 bits) or IPv6 address."""
    family = socket.AF_INET if bits == 32 else socket.AF_INET6
    return socket.inet_ntop(family, value.to_bytes(bits // 8, "big"))


def _masked(value: str, mask: int | None) -> str:
    return value if mask is None else f"{value}/{mask:#x}"


def _print_mac(value: int) -> str:
    return value.to_bytes(6, "big").hex(":")


def _print_address(bits: int, value: int, mask: int | None) -> str:
    text = print_address(bits, value)
    if mask is None:
        return text
    wild = (1 << bits) - 1 ^ mask
    if wild & (wild + 1) == 0:
        return f"{text}/{bits - wild.bit_length()}"
    return f"{text}/{print_address(bits, mask)}"


def _print_flags(field: Field, value: int, mask: int | None) -> str:
    names = FLAGS[field]
    every = (1 << len(names)) - 1
    if mask is None or mask == every:
        words = [name for bit, name in enumerate(names) if value >> bit & 1]
        return "|".join(words) or "0"
    return "".join(
        f"{'+' if value >> bit & 1 else '-'}{name}"
        for bit, name in enumerate(names)
        if mask >> bit & 1
    )


def parse_number(text: str, bits: int) -> int:
    """A decimal, or with 0x a hexadecimal, number that fits `bits` bits."""
    try:
        value = int(text, 16 if text.lower().startswith("0x") else 10)
    except ValueError:
        value = -1
    if not 0 <= value < 1 << bits:
        raise ValueError(f"{text!r}: expected a number of at most {bits} bits")
    return value


def parse_port(text: str, ports: PortNumbers) -> int:
    """A port: a number, a reserved port's word, or a name, in quotes or not."""
    name = text.strip('"')
    if name in ports:
        return ports[name]
    if name.upper() in PORT_NUMBERS:
        return PORT_NUMBERS[name.upper()]
    if name.isdecimal():
        return parse_number(name, 32)
    known = ", ".join(sorted(ports)) or "none"
    raise ValueError(f"{text}: expected a port number or the name of a known port ({known})")


def parse_table(text: str) -> Table:
    """A table by its name, in quotes or not, or its number.

    Raises:
        ValueError: the pipeline has no such table.
    """
    name = text.strip('"')
    if name in _TABLES:
        return _TABLES[name]
    if name.isdecimal() and int(name) < len(_TABLE_LIST):
        return _TABLE_LIST[int(name)]
    names = ", ".join(_TABLES)
    raise ValueError(f"table {text}: expected a number below {len(Table)} or one of {names}")


def parse_value(field: Field, text: str, ports: PortNumbers) -> tuple[int, int | None]:
    """A value, and its mask if one is given, as a match or set_field has it.

    Raises:
        ValueError: the text is no value of this field; the message says what would be.
    """
    if field is Field.IP_FRAG and text in FRAGMENTS:
        return FRAGMENTS[text]
    if field in FLAGS and not text[:1].isdecimal():
        return _parse_flags(field, text)
    if field is Field.CT_STATE and text == "0":
        return 0, _CT_BITS
    if field.form is Form.PORT:
        return parse_port(text, ports), None
    value, slash, mask = text.partition("/")
    if not slash:
        return _parse_plain(field, value), None
    if field.form in (Form.IPV4, Form.IPV6) and mask.isdecimal():
        length = int(mask)
        if length > field.bits:
            raise ValueError(f"/{mask}: expected a prefix of at most {field.bits} bits")
        return _parse_plain(field, value), field.full ^ field.full >> length
    return _parse_plain(field, value), _parse_plain(field, mask)


def parse_address(text: str) -> tuple[int, int]:
    """An IPv4 or IPv6 address, the latter possibly in brackets: value and bits."""
    bare = text.removeprefix("[").removesuffix("]")
    try:
        if ":" in bare:
            return int(IPv6Address(bare)), 128
        return int(IPv4Address(bare)), 32
    except AddressValueError:
        raise ValueError(f"{text!r}: expected an IPv4 or IPv6 address") from None


def _parse_plain(field: Field, text: str) -> int:
    match field.form:
        case Form.MAC:
            if not _MAC.fullmatch(text):
                raise ValueError(f"{text!r}: expected a MAC address")
            return int("".join(f"{int(part, 16):02x}" for part in text.split(":")), 16)
        case Form.IPV4 | Form.IPV6:
            value, bits = parse_address(text)
            if bits != field.bits:
                family = "IPv4" if field.bits == 32 else "IPv6"
                raise ValueError(f"{text!r}: expected an {family} address")
            return value
    return parse_number(text, field.bits)


def _parse_flags(field: Field, text: str) -> tuple[int, int | None]:
    names = FLAGS[field]
    value = mask = 0
    if text[:1] not in ("+", "-"):
        for word in text.split("|"):
            value |= _flag(names, word, text)
        return value, _CT_BITS if field is Field.CT_STATE else None
    at = 0
    while found := _SIGNED_FLAG.match(text, at):
        bit = _flag(names, found[2], text)
        mask |= bit
        value |= bit if found[1] == "+" else 0
        at = found.end()
    if at != len(text):
        raise ValueError(f"{text!r}: expected flags such as +{names[0]}-{names[1]}")
    return value, mask


def _flag(names: tuple[str, ...], word: str, text: str) -> int:
    if word not in names:
        raise ValueError(f"{text!r}: {word!r} is no flag; expected some of {', '.join(names)}")
    return 1 << names.index(word)
