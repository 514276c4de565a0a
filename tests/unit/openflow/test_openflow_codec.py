"""Encoding and decoding are each other's inverse, and no bytes can hurt the decoder."""

import contextlib
import struct

import msgspec
import pytest
from fake_switch import RawFlow, cookie_of, description
from flow_strategies import flow_sets, flows
from hypothesis import given, settings
from hypothesis import strategies as st

from ovsnet.controller.openflow import decode, encode, framing
from ovsnet.controller.openflow.actions import decode_instructions, encode_instructions
from ovsnet.controller.openflow.decode import ForeignFlow, Stats
from ovsnet.controller.openflow.oxm import WireError, encode_match
from ovsnet.flows.fields import EthType, Field
from ovsnet.flows.flow import (
    Conjunction,
    Flow,
    Goto,
    Learn,
    Output,
    SetField,
    Subfield,
    Term,
    match,
    term,
    whole,
)
from ovsnet.names import Table


def flow_mods(data: bytes) -> list[bytes]:
    """The flow-mods in a run of bundle messages."""
    found = []
    while data:
        version, kind, length, xid = struct.unpack_from("!BBHI", data)
        _, _, flags = struct.unpack_from("!IHH", data, 8)
        assert (version, kind, flags) == (6, 34, 3), "ordered and atomic"
        inner = data[16:length]
        assert struct.unpack_from("!BBHI", inner) == (6, 14, length - 16, xid)
        found.append(inner)
        data = data[length:]
    return found


def as_dumped(flow_mod: bytes, **counters: int) -> bytes:
    """What a switch that keeps flows as they came in would report of this one."""
    length = struct.unpack_from("!H", flow_mod, 50)[0]
    instructions_at = 48 + -(-length // 8) * 8
    priority = struct.unpack_from("!H", flow_mod, 30)[0]
    key = (flow_mod[24], priority, flow_mod[48:instructions_at])
    return description(key, RawFlow(cookie_of(flow_mod), flow_mod[instructions_at:]), **counters)


@given(flow_sets(max_size=8))
def test_a_dump_of_what_was_encoded_decodes_to_the_same(generated):
    body = b"".join(map(as_dumped, flow_mods(encode.flow_adds(generated))))
    assert decode.flows(body) == list(generated)


@given(flows())
def test_statistics_are_read(flow):
    (mod,) = flow_mods(encode.flow_adds([flow]))
    ((found, stats),) = decode.flows_with_stats(as_dumped(mod, seconds=77, packets=5))
    assert found == flow
    assert stats == Stats(packets=5, octets=500, seconds=77.0)


@given(flow_sets(max_size=8))
def test_shared_bytes_are_those_of_encoding_alone(generated):
    shared = encode.SharedAdds(remember=4)
    for _ in range(2):
        assert shared.encode(generated) == encode.flow_adds(generated)


@given(flows(), flows())
def test_fingerprints_tell_flows_apart(one, other):
    assert (encode.fingerprint(one) == encode.fingerprint(other)) == (one == other)


def test_deletes_name_the_flow_exactly_and_any_cookie():
    flow = Flow(Table.ROUTE, 7, match(term(Field.REG0, 1)), (Goto(Table.OUTPUT),), 99)
    (mod,) = flow_mods(encode.flow_deletes([flow.key]))
    cookie, mask, table, command = struct.unpack_from("!QQBB", mod, 8)
    assert (cookie, mask, table, command) == (0, 0, Table.ROUTE, 4)
    assert mod[48:] == encode_match(flow.match)


def test_prerequisites_stand_before_what_needs_them():
    tracked = match(
        term(Field.CT_NW_SRC, 1),
        term(Field.CT_TP_DST, 2),
        term(Field.ETH_TYPE, EthType.IPV4),
        term(Field.IP_PROTO, 6),
    )
    encoded = encode_match(tracked)
    positions = [encoded.index(h) for h in (b"\x80\x00\x0a", b"\x80\x00\x14", b"\x00\x01\xf0")]
    assert positions == sorted(positions)


def test_register_pairs_of_openflow_15_become_registers():
    pair = bytes.fromhex("80010310") + struct.pack("!QQ", 5 << 32 | 3, 0xFF << 32 | 0xFFFFFFFF)
    body = struct.pack("!HH", 1, 4 + len(pair)) + pair
    body += bytes(-len(body) % 8)
    (found,) = decode.flows(description((3, 1, body), RawFlow(0, b"")))
    assert found == Flow(Table(3), 1, match(term(Field.REG2, 5, 0xFF), term(Field.REG3, 3)))


LEARN = Learn(
    Table.AFFINITY,
    priority=100,
    same=(Field.IPV4_SRC,),
    where=(Term(Field.ETH_TYPE, 0x800), Term(Field.REG4, 0x11223344)),
    target=whole(Field.REG8),
    value=0xABCDEF01,
    idle=10800,
    limit=1000,
    cookie=7 << 56 | 1,
)
LEARN_HEAD = (
    f"2a30 0000 0064 0700000000000001 0000 {Table.AFFINITY:02x} 00 0000 0000 000003e8 00000000"
)
"""As Open vSwitch 3.1 dumps them."""
CONDITIONS = (
    "2010 0800 00000602 0000  2020 11223344 00010804 0000  0020 00000e04 0000 00000e04 0000"
)
WRITE = "2820 abcdef01 00011004 0000"


def learnt(*parts: str) -> bytes:
    """The instructions of a flow that does nothing but learn, given in hexadecimal."""
    body = bytes.fromhex("".join(parts))
    body += bytes(-(len(body) + 10) % 8)
    head = struct.pack("!HHIH", 0xFFFF, 10 + len(body), 0x2320, 45)
    return struct.pack("!HH4x", 4, 18 + len(body)) + head + body


def test_what_a_real_switch_says_of_learn_is_read():
    assert decode_instructions(learnt(LEARN_HEAD, CONDITIONS, WRITE)) == (LEARN,)
    assert decode_instructions(encode_instructions((LEARN,))) == (LEARN,)


@pytest.mark.parametrize(
    "parts",
    [
        (LEARN_HEAD, CONDITIONS),
        (LEARN_HEAD, CONDITIONS, WRITE, WRITE),
        (LEARN_HEAD.replace("000003e8", "00000000"), WRITE),
        (LEARN_HEAD.replace("2a30 0000", "2a30 0001"), WRITE),
        (LEARN_HEAD.replace("0001 0000", "0001 0001"), WRITE),
        (LEARN_HEAD.replace("00 0000 0000", "00 0001 0000"), WRITE),
        (LEARN_HEAD.replace("00 0000 0000", "00 0000 0001"), WRITE),
        (LEARN_HEAD.replace("000003e8 0000", "000003e8 0028"), WRITE),
        (LEARN_HEAD.replace(f"{Table.AFFINITY:02x} 00", "f0 00"), WRITE),
        (LEARN_HEAD, "2008 0005 00010804 0000", WRITE),
        (LEARN_HEAD, "2000 00010804 0000", WRITE),
        (LEARN_HEAD, "0008 00010804 0000 00010804 0000", WRITE),
        (LEARN_HEAD, "0020 00010804 0000 00010a04 0000", WRITE),
        (LEARN_HEAD, "0820 00010804 0000 00010804 0000", WRITE),
        (LEARN_HEAD, "0021 00010804 0000 00010804 0000", WRITE),
        (LEARN_HEAD, "2020 00000005 00010804 0001", WRITE),
        (LEARN_HEAD, "2020 00000005 00010908 0000", WRITE),
        (LEARN_HEAD, "200c ffff 00014402 0000", WRITE),
        (LEARN_HEAD, "3020 00000005 00010804 0000", WRITE),
        (LEARN_HEAD, "2020 00000005 000108"),
        (LEARN_HEAD, "2020 0000"),
        (LEARN_HEAD[:40],),
    ],
)
def test_what_we_never_learn_is_refused(parts):
    with pytest.raises(WireError):
        decode_instructions(learnt(*parts))


def test_the_port_that_a_packet_came_in_by_is_written_by_its_older_number():
    """Open vSwitch refuses to write OXM_OF_IN_PORT (OFPBAC_BAD_SET_ARGUMENT)."""
    for port, short in ((0, 0), (7, 7), (0xFFFFFFFE, 0xFFFE)):
        data = encode_instructions((SetField(Field.IN_PORT, port),))
        assert data == struct.pack("!HH4x HHIH6x", 4, 24, 25, 16, 0x00000002, short)
        assert decode_instructions(data) == (SetField(Field.IN_PORT, port),)
    with pytest.raises(WireError):
        decode_instructions(struct.pack("!HH4x HHI", 4, 16, 25, 8, 0x00000002))


@pytest.mark.parametrize(
    ("actions", "error"),
    [
        ((Goto(Table.OUTPUT), Output(1)), ValueError),
        ((SetField(Field.ETH_TYPE, 1 << 16),), OverflowError),
        ((Conjunction(1 << 32, 1, 2),), struct.error),
        ((SetField(Field.IN_PORT, 0x10000),), ValueError),
        ((msgspec.structs.replace(LEARN, limit=0),), ValueError),
        ((msgspec.structs.replace(LEARN, where=(Term(Field.REG4, 1, 1),)),), ValueError),
        ((msgspec.structs.replace(LEARN, where=(Term(Field.REG4, 1 << 32),)),), OverflowError),
        ((msgspec.structs.replace(LEARN, target=Subfield(Field.REG8, 0, 4)),), OverflowError),
    ],
)
def test_what_cannot_be_encoded_is_refused(actions, error):
    with pytest.raises(error):
        encode.flow_adds([Flow(Table.ROUTE, 1, (), actions)])


def test_a_stranger_keeps_what_is_needed_to_delete_it():
    metadata = bytes.fromhex("80000408") + bytes(8)
    matched = struct.pack("!HH", 1, 16) + metadata
    (found,) = decode.flows(description((200, 9, matched), RawFlow(5, b"")))
    assert isinstance(found, ForeignFlow)
    assert (found.table, found.priority, found.match, found.cookie) == (200, 9, matched, 5)
    assert found.key is None
    (mod,) = flow_mods(encode.raw_delete(found.table, found.priority, found.match))
    assert mod[24] == 200
    assert mod[48:] == matched


def test_a_timeout_makes_a_flow_foreign_but_its_key_is_known():
    flow = Flow(Table.ROUTE, 7, match(term(Field.REG0, 1)))
    (mod,) = flow_mods(encode.flow_adds([flow]))
    (found,) = decode.flows(as_dumped(mod, idle=30))
    assert isinstance(found, ForeignFlow)
    assert found.key == flow.key


@given(flows(), st.data())
def test_damaged_dumps_yield_flows_or_a_wire_error(flow, data):
    body = bytearray(b"".join(map(as_dumped, flow_mods(encode.flow_adds([flow, flow])))))
    for _ in range(data.draw(st.integers(1, 6))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(body[: data.draw(st.integers(0, len(body)))])
    try:
        found = decode.flows_with_stats(damaged)
    except WireError:
        return
    for flow, _ in found:
        assert isinstance(flow, Flow | ForeignFlow)


@given(st.binary(max_size=300))
def test_any_bytes_yield_flows_or_a_wire_error(body):
    for read in (decode.flows, decode.flows_with_stats, decode.flow_counts):
        try:
            read(body)
        except WireError:
            continue
    decode.refused_flow(body)


def test_zero_lengths_end():
    for body in (
        bytes(64),
        b"\x00\x28" + bytes(38),
        b"\x00\x30" + bytes(22) + b"\x00\x01" + bytes(22),
    ):
        with pytest.raises(WireError):
            decode.flows(body)


HEADER = struct.Struct("!BBHI")


def message(kind: int, body: bytes, version: int = 6) -> bytes:
    return HEADER.pack(version, kind, 8 + len(body), 1) + body


def test_messages_are_cut_wherever_the_stream_breaks():
    stream = message(0, b"") + message(20, b"") + message(3, b"12345678")
    whole = [m.data for m in framing.messages(bytearray(stream))]
    for cut in range(len(stream)):
        buffer = bytearray(stream[:cut])
        found = [m.data for m in framing.messages(buffer)]
        buffer += stream[cut:]
        assert found + [m.data for m in framing.messages(buffer)] == whole
        assert not buffer


@pytest.mark.parametrize(
    "data",
    [
        HEADER.pack(6, 0, 0, 1),
        HEADER.pack(6, 0, 7, 1),
        message(6, bytes(24), version=4),
    ],
)
def test_what_is_no_message_is_refused(data):
    with pytest.raises(WireError):
        list(framing.messages(bytearray(data)))


def port(length: int, properties: bytes = b"") -> bytes:
    return struct.pack("!IH2x6s2x16sII", 1, length, bytes(6), b"p", 0, 0) + properties


@pytest.mark.parametrize(
    "data",
    [
        message(0, struct.pack("!HH", 9, 0)),  # the hello that keeps os-ken's parser for ever
        message(0, struct.pack("!HH", 1, 3)),
        message(12, bytes(8) + port(0)),
        message(12, bytes(8) + port(48)),
        message(12, bytes(8) + port(48, struct.pack("!HH4x", 0, 0))),
        message(12, bytes(8)),
        message(19, struct.pack("!HH4x", 13, 0) + port(1)),
        message(19, struct.pack("!HH4x", 0, 0) + bytes(10)),
        message(19, b""),
        message(33, bytes(8) + struct.pack("!HH", 0, 0)),
        message(25, bytes(4)),
    ],
)
def test_wrong_lengths_inside_a_message_are_refused(data):
    (found,) = framing.messages(bytearray(data))
    with pytest.raises(WireError):
        framing.check(found)


@settings(max_examples=300)
@given(st.integers(0, 40), st.binary(max_size=200))
def test_any_message_is_passed_over_checked_or_refused(kind, body):
    (found,) = framing.messages(bytearray(message(kind, body)))
    with contextlib.suppress(WireError):
        framing.check(found)
