"""What a real switch tells of its flows adds up to the flows that it has, however much it is."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from ipaddress import IPv4Address

import datapath
import pytest

from ovsnet import names
from ovsnet.cni.leads import Lead, LeadWatch
from ovsnet.names import SERVICE_ZONE, Table
from ovsnet.sandbox.openvswitch import OpenVSwitch, network_namespace

MANY = 20_000
"""So many changes are more than a switch keeps for one that does not listen: it pauses."""

MAIN = int(Table.BALANCE)


@pytest.fixture(scope="module")
def ovs() -> Iterator[OpenVSwitch]:
    with (
        network_namespace(f"leads-{secrets.token_hex(4)}") as netns,
        OpenVSwitch(netns) as found,
    ):
        kind = f"datapath_type={datapath.TYPE}"
        bridge = ("set", "bridge", names.BRIDGE, kind, "protocols=OpenFlow15")
        found.vsctl("add-br", names.BRIDGE, "--", *bridge, "fail_mode=secure")
        yield found


@pytest.fixture
def watch(ovs: OpenVSwitch) -> Iterator[LeadWatch]:
    ovs.ofctl("del-flows", names.BRIDGE)
    with LeadWatch(ovs.management_socket(names.BRIDGE)) as found:
        yield found


def lead(number: int) -> Lead:
    return Lead(number + 1, IPv4Address(0x0A000000 + number).packed, 53)


def added(number: int, table: int = MAIN, key: int | None = None) -> str:
    target = IPv4Address(0x0A000000 + number)
    return (
        f"flow add table={table},udp,reg4={number if key is None else key}"
        f" actions=set_field:0->reg2,ct(commit,zone={SERVICE_ZONE},nat(dst={target}:53)"
        f",exec(set_field:{number + 1:#x}->ct_mark),table={int(Table.SOURCE_NAT)})\n"
    )


def removed(number: int) -> str:
    return f"flow delete_strict table={MAIN},udp,reg4={number}\n"


def bundle(ovs: OpenVSwitch, *messages: str) -> None:
    ovs.ofctl("bundle", names.BRIDGE, "-", stdin="".join(messages))


def expect(watch: LeadWatch, *, stand: range, withdrawn: set[Lead]) -> None:
    watch.synchronise()
    assert all(watch.leads.stands(lead(number)) for number in stand)
    assert watch.leads.withdrawn() == withdrawn
    assert not any(watch.leads.stands(each) for each in withdrawn)


def test_all_flows_that_are_there_are_known_at_once(ovs: OpenVSwitch, watch: LeadWatch) -> None:
    bundle(ovs, *map(added, range(MANY)))
    with LeadWatch(ovs.management_socket(names.BRIDGE)) as other:
        assert all(other.leads.stands(lead(number)) for number in range(MANY))
        assert not other.leads.withdrawn()


def test_changes_that_nobody_listens_to_are_all_known_in_the_end(
    ovs: OpenVSwitch, watch: LeadWatch
) -> None:
    bundle(ovs, *map(added, range(MANY)))
    bundle(ovs, *map(removed, range(100)))
    bundle(ovs, *map(added, range(MANY, MANY + 200)))
    bundle(ovs, *(added(n + MANY * 2, key=n) for n in range(100, 150)))
    gone = {lead(number) for number in range(150)}
    expect(watch, stand=range(150, MANY + 200), withdrawn=gone)
    expect(watch, stand=range(MANY * 2 + 100, MANY * 2 + 150), withdrawn=gone)


def test_what_was_added_and_removed_while_nobody_listened(
    ovs: OpenVSwitch, watch: LeadWatch
) -> None:
    """It need not be told: nobody has known of it."""
    bundle(ovs, *map(added, range(MANY)))
    bundle(ovs, *map(added, range(MANY, MANY + 10)))
    bundle(ovs, *map(removed, range(MANY, MANY + 10)))
    watch.synchronise()
    assert not any(watch.leads.stands(lead(number)) for number in range(MANY, MANY + 10))


def test_a_bundle_is_never_seen_half(ovs: OpenVSwitch, watch: LeadWatch) -> None:
    bundle(ovs, added(1))
    for turn in range(50):
        bundle(ovs, removed(1 if turn % 2 == 0 else 2), added(1, key=2 if turn % 2 == 0 else 1))
        expect(watch, stand=range(1, 2), withdrawn=set())


@pytest.mark.parametrize(
    "flow",
    [
        f"table={int(Table.ENDPOINT)},udp",
        f"table={int(Table.STICKY)},udp",
        f"table={MAIN},udp,reg4=7",
    ],
)
def test_where_flows_are_looked_for(ovs: OpenVSwitch, watch: LeadWatch, flow: str) -> None:
    message = added(5)
    bundle(ovs, f"flow add {flow} {message[message.index('actions') :]}")
    expect(watch, stand=range(5, 6), withdrawn=set())
    ovs.ofctl("del-flows", names.BRIDGE, flow.partition(",")[0])
    expect(watch, stand=range(0), withdrawn={lead(5)})


@pytest.mark.parametrize("kind", ["tcp", "ip"])
def test_where_they_are_not(ovs: OpenVSwitch, watch: LeadWatch, kind: str) -> None:
    bundle(ovs, added(5).replace("udp", kind))
    watch.synchronise()
    assert not watch.leads.serves
