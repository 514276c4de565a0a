"""The hash by which `multipath` chooses: `jhash` of Open vSwitch (lib/jhash.c), after "lookup3" by
Bob Jenkins.
"""

from __future__ import annotations

from typing import Final

from ovsnet.flows.fields import EthType, Field
from ovsnet.flows.simulator.packet import Packet

_BITS: Final = 0xFFFFFFFF
_BEGIN: Final = 0xDEADBEEF
_BLOCK: Final = 12
_MIX: Final = (4, 6, 8, 16, 19, 4)
_FINAL: Final = (14, 11, 25, 16, 4, 14, 24)

Three = tuple[int, int, int]


def source_hash(packet: Packet, basis: int) -> int:
    """What a packet's source address comes to, in 32 bits; of what has none, the basis."""
    if packet[Field.ETH_TYPE] == EthType.IPV4:
        return jhash(packet[Field.IPV4_SRC].to_bytes(4, "big"), basis)
    if packet[Field.ETH_TYPE] == EthType.IPV6:
        return jhash(packet[Field.IPV6_SRC].to_bytes(16, "big"), basis)
    return basis


def jhash(data: bytes, basis: int) -> int:
    """The hash of some bytes, as a machine has it that puts low bytes first."""
    begin = _BEGIN + len(data) + basis & _BITS
    state = (begin, begin, begin)
    whole = len(data) - len(data) % _BLOCK
    for start in range(0, whole, _BLOCK):
        state = _mixed(_added(state, data[start : start + _BLOCK]))
    if whole < len(data):
        state = _ended(_added(state, data[whole:].ljust(_BLOCK, b"\0")))
    return state[2]


def _added(state: Three, block: bytes) -> Three:
    a, b, c = (
        value + int.from_bytes(block[4 * i : 4 * i + 4], "little") & _BITS
        for i, value in enumerate(state)
    )
    return a, b, c


def _mixed(state: Three) -> Three:
    a, b, c = state
    for turn in _MIX:
        a = (a - c & _BITS) ^ _turned(c, turn)
        c = c + b & _BITS
        a, b, c = b, c, a
    return a, b, c


def _ended(state: Three) -> Three:
    a, b, c = state
    for turn in _FINAL:
        c = (c ^ b) - _turned(b, turn) & _BITS
        a, b, c = b, c, a
    return c, a, b


def _turned(value: int, bits: int) -> int:
    return (value << bits | value >> 32 - bits) & _BITS
