"""Where the flows of UDP services lead, from what the switch tells of them."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterable
from ipaddress import ip_address

import msgspec
import pytest
from flow_monitoring import (
    ADDED,
    INITIAL,
    MODIFIED,
    REMOVED,
    ToldSwitch,
    reply,
    stamp_update,
    update,
)
from hypothesis import given
from hypothesis import strategies as st

from ovsnet.cni.flowupdates import WatchError, hello, monitor_request, updates
from ovsnet.cni.leads import WATCHED, Lead, Leads, LeadWatch, leads_of
from ovsnet.cni.stampwatch import Stamp
from ovsnet.controller.openflow.actions import encode_instructions
from ovsnet.controller.openflow.oxm import encode_terms
from ovsnet.flows import service
from ovsnet.flows.fields import Field
from ovsnet.flows.flow import Action, Ct, Flow, Nat, NatKind, SetField
from ovsnet.flows.priorities import BEFORE, USUAL
from ovsnet.flows.service import EndpointSet, Target, mark_of
from ovsnet.model import Protocol
from ovsnet.names import POLICY_ZONE, SERVICE_ZONE, Table

THERE = bytes.fromhex(
    "00100000000000000098000002000000000080000000000000000000000000000001002380000a02080080001401"
    "11800105100000000500000000ffffffff0000000000000000000004005800000000001900100001040400000000"
    "00000000ffff0040000023200023000100000000fff1030000000000ffff00180000232000240000000200110a00"
    "000214e90000001900100001d604deadbeef00000000009800000200000000008000000000000000000000000000"
    "0001002380000a0286dd8000140111800105100000000500000000ffffffff000000000000000000000400580000"
    "0000ffff0050000023200023000100000000fff1030000000000ffff0028000023200024000000020014fd000000"
    "00000000000000000000000214e9000000000000001900100001d6041234567800000000"
)
"""What Open vSwitch 3.1 tells of `udp,reg4=5 actions=set_field:0->reg2,
ct(commit,table=3,zone=65521,nat(dst=10.0.0.2:5353),exec(set_field:0xdeadbeef->ct_mark))`
and of `udp6,reg4=5 actions=
ct(commit,table=3,zone=65521,nat(dst=[fd00::2]:5353),exec(set_field:0x12345678->ct_mark))`.
"""

CHANGED = bytes.fromhex(
    "00100000000000000098000202020000000080000000000000000000000000000001002380000a02080080001401"
    "11800105100000000500000000ffffffff0000000000000000000004005800000000001900100001040400000000"
    "00000000ffff0040000023200023000100000000fff1030000000000ffff00180000232000240000000200110a00"
    "000214e90000001900100001d604deadbeef00000000004000010200000000008000000000000000000000000000"
    "0001002380000a0208008000140111800105100000000600000000ffffffff000000000000000000004000030200"
    "0000000080000000000000000000000000000001002380000a0286dd8000140111800105100000000500000000ff"
    "ffffff0000000000000000000020000119000000000080000000000000000000000000000001000400000000"
)
"""And when the first is deleted, `udp,reg4=6 actions=drop` added, the second modified to drop
packets, and a flow added to the stamp's table.
"""

UDP = EndpointSet(0xAB00000CD, 4, Protocol.UDP)
UDP6 = EndpointSet(0xAB00000CE, 6, Protocol.UDP)
OTHER = EndpointSet(0xAB00000D0, 4, Protocol.UDP)
STICKY = EndpointSet(0xAB00000CF, 4, Protocol.UDP, affinity=60)


def targets(*hosts: int, version: int = 4) -> tuple[Target, ...]:
    base = "10.244.1.0" if version == 4 else "fd00:10:244:1::"
    return tuple(Target(ip_address(base) + host, 53) for host in hosts)


def lead(of: EndpointSet, target: Target) -> Lead:
    return Lead(mark_of(of, target), target.address.packed, target.port)


def leads(of: EndpointSet, *hosts: int) -> frozenset[Lead]:
    return frozenset(lead(of, target) for target in targets(*hosts, version=of.version))


def told(found: Leads, *parts: bytes) -> Leads:
    for each in updates(reply(*parts)):
        found.told(each)
    return found


def told_of(event: int, flows: Iterable[Flow], found: Leads | None = None) -> Leads:
    return told(found or Leads(), *(update(event, flow) for flow in flows))


def test_what_open_vswitch_tells() -> None:
    found = Leads()
    for each in updates(THERE):
        found.told(each)
    leads = {
        Lead(0xDEADBEEF, ip_address("10.0.0.2").packed, 5353),
        Lead(0x12345678, ip_address("fd00::2").packed, 5353),
    }
    assert all(map(found.stands, leads))
    assert not found.withdrawn()
    for each in updates(CHANGED):
        found.told(each)
    assert not any(map(found.stands, leads))
    assert found.withdrawn() == leads
    assert not found.serves


def test_flows_of_services_lead_to_their_endpoints() -> None:
    for endpoints, hosts in ((UDP, (7,)), (UDP, (7, 8, 9)), (UDP6, (7, 8)), (UDP6, (9,))):
        flows = list(service.balance(endpoints, targets(*hosts, version=endpoints.version)))
        found = told_of(INITIAL, flows)
        assert all(map(found.stands, leads(endpoints, *hosts)))
        told_of(REMOVED, flows, found)
        assert found.withdrawn() == leads(endpoints, *hosts)


def test_flows_of_clients_that_keep_their_endpoint_lead_there_where_they_commit() -> None:
    choosing = list(service.balance(STICKY, targets(7, 8)))
    keeping = list(service.sticky(STICKY, targets(7, 8)))
    assert not told_of(INITIAL, choosing).serves
    found = told_of(INITIAL, [*choosing, *keeping])
    assert all(map(found.stands, leads(STICKY, 7, 8)))


TARGET = Nat(NatKind.DESTINATION, int(ip_address("10.244.1.7")), 32, 53)
MARK = SetField(Field.CT_MARK, 5)


def commit(
    *then: SetField, zone: int = SERVICE_ZONE, commit: bool = True, nat: Nat | None = TARGET
) -> Action:
    return Ct(zone, Table.SOURCE_NAT, commit=commit, nat=nat, then=then)


@pytest.mark.parametrize(
    "actions",
    [
        (),
        (MARK,),
        (commit(),),
        (commit(MARK, commit=False),),
        (commit(MARK, zone=POLICY_ZONE),),
        (commit(SetField(Field.CT_MARK, 5, 7)),),
        (commit(SetField(Field.CT_LABEL, 5)),),
        (commit(MARK, nat=None),),
        (commit(MARK, nat=Nat()),),
        (commit(MARK, nat=Nat(NatKind.SOURCE, TARGET.address, 32, 53)),),
        (commit(MARK, nat=Nat(NatKind.DESTINATION, TARGET.address, 32)),),
    ],
)
def test_other_actions_lead_to_no_endpoint(actions: tuple[Action, ...]) -> None:
    assert leads_of(encode_instructions(actions)) == frozenset()


def test_a_mark_of_zero_is_one() -> None:
    instructions = encode_instructions((commit(SetField(Field.CT_MARK, 0)),))
    assert leads_of(instructions) == {Lead(0, ip_address("10.244.1.7").packed, 53)}


def test_a_lead_stands_as_long_as_any_flow_has_it() -> None:
    (flow,) = service.balance(UDP, targets(7))
    again = msgspec.structs.replace(flow, priority=BEFORE)
    found = told_of(INITIAL, [flow, again])
    told_of(REMOVED, [flow], found)
    assert found.stands(lead(UDP, *targets(7)))
    assert not found.withdrawn()
    told_of(REMOVED, [again], found)
    assert found.withdrawn() == leads(UDP, 7)


@pytest.mark.parametrize("event", [ADDED, MODIFIED])
def test_a_flow_that_takes_the_place_of_another(event: int) -> None:
    (before,), (after,) = (service.balance(UDP, targets(host)) for host in (7, 8))
    assert before.key == after.key
    found = told_of(event, [after], told_of(INITIAL, [before]))
    assert found.withdrawn() == leads(UDP, 7)
    assert found.stands(lead(UDP, *targets(8)))


def test_a_flow_that_is_told_twice() -> None:
    (flow,) = service.balance(UDP, targets(7))
    found = told_of(ADDED, [flow], told_of(INITIAL, [flow]))
    told_of(REMOVED, [flow], found)
    assert not found.stands(lead(UDP, *targets(7)))


def test_endpoints_that_get_other_numbers_are_not_withdrawn() -> None:
    before, after = (list(service.balance(UDP, targets(*hosts))) for hosts in ((7, 8), (6, 7, 8)))
    found = told_of(ADDED, after, told_of(INITIAL, before))
    assert not found.withdrawn()
    # One flow after the other, the 8 was gone for a moment.
    assert all(map(found.stands, leads(UDP, 6, 7, 8)))


def test_a_lead_that_comes_back_is_not_withdrawn() -> None:
    (flow,) = service.balance(UDP, targets(7))
    found = told_of(REMOVED, [flow], told_of(INITIAL, [flow]))
    told_of(ADDED, [flow], found)
    assert not found.withdrawn()
    told_of(REMOVED, [flow], found)
    assert found.withdrawn() == leads(UDP, 7)


def test_what_is_forgotten_is_told_again_only_when_it_is_withdrawn_again() -> None:
    (first,), (second,) = (service.balance(of, targets(7)) for of in (UDP, OTHER))
    found = told_of(REMOVED, [first], told_of(INITIAL, [first, second]))
    gone = found.withdrawn()
    told_of(REMOVED, [second], found)
    found.forget(gone)
    assert found.withdrawn() == leads(OTHER, 7)
    told_of(REMOVED, [first], told_of(ADDED, [first], found))
    assert found.withdrawn() == leads(OTHER, 7) | leads(UDP, 7)


def test_the_stamp() -> None:
    found = Leads()
    assert found.stamp is None
    told(found, stamp_update(ADDED, 5, 1))
    assert found.stamp == Stamp(5, 1)
    told(found, update(ADDED, Flow(Table.STAMP, 3, (), ()), 9))
    assert found.stamp == Stamp(5, 1)
    told(found, stamp_update(REMOVED, 5, 1))
    assert found.stamp is None


@given(st.integers(0, 1 << 32))
def test_after_any_changes_the_leads_are_those_of_the_flows(seed: int) -> None:
    chance = random.Random(seed)
    there: dict[int, int] = {}
    ever: set[Lead] = set()
    found = Leads()
    for _ in range(60):
        key, host = chance.randrange(5), chance.randrange(5)
        if chance.random() < 0.4 and key in there:
            told_of(REMOVED, [one(key, there.pop(key))], found)
        else:
            told_of(chance.choice((ADDED, MODIFIED)), [one(key, host)], found)
            there[key] = host
            ever |= leads(UDP, host)
        standing = leads(UDP, *there.values())
        assert {each for each in ever if found.stands(each)} == standing
        assert found.withdrawn() == ever - standing
        assert found.serves == bool(there)


def one(key: int, host: int) -> Flow:
    (flow,) = service.balance(UDP, targets(host))
    return msgspec.structs.replace(flow, priority=USUAL + key)


@pytest.mark.parametrize("cut", [-1, -4, -10, -30])
def test_actions_that_end_too_soon(cut: int) -> None:
    (flow,) = service.balance(UDP, targets(7))
    with pytest.raises(WatchError):
        leads_of(encode_instructions(flow.actions)[:cut])


@given(st.binary(max_size=120))
def test_any_octets_are_actions_or_end_in_words(octets: bytes) -> None:
    with contextlib.suppress(WatchError):
        leads_of(octets)


def test_only_what_may_lead_udp_connections_to_endpoints_is_asked_for(
    told_switch: ToldSwitch,
) -> None:
    (flow,) = service.balance(UDP, targets(7))
    told_switch.serve(update(INITIAL, flow), stamp_update(INITIAL, 5, 1))
    with LeadWatch(told_switch.path) as watch:
        assert watch.leads.stamp == Stamp(5, 1)
        assert watch.leads.stands(lead(UDP, *targets(7)))
        asked = hello() + monitor_request(WATCHED)
        assert told_switch.heard(len(asked)) == asked


def test_what_is_asked_for_is_where_flows_of_services_are() -> None:
    flows = [
        *service.balance(UDP, targets(7, 8)),
        *service.balance(UDP6, targets(7, version=6)),
        *service.sticky(STICKY, targets(7)),
    ]
    committing = [flow for flow in flows if leads_of(encode_instructions(flow.actions))]
    assert len(committing) == 4
    for flow in committing:
        first = tuple(t for t in flow.match if t.field in {Field.ETH_TYPE, Field.IP_PROTO})
        assert (flow.table, encode_terms(first)) in WATCHED
