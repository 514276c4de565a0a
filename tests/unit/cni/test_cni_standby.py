"""Which messages move the device's addresses and routes to the bridge, and back.

A small kernel takes them, so that what is after every single one can be looked at.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovsnet.cni import copies, routing, standby
from ovsnet.cni.copies import Held, Placed, Way
from ovsnet.cni.netlink import Message

DEVICE, BRIDGE, OTHER = 2, 7, 3
MAIN = routing.MAIN_TABLE
_DST, _GATEWAY = 1, 5


def way(network: str = "0.0.0.0/0", gateway: str = "") -> Way:
    address, _, length = network.partition("/")
    packed = ip_address(address).packed
    kinds = [(_DST, packed)] if int(length) else []
    kinds += [(_GATEWAY, ip_address(gateway).packed)] if gateway else []
    family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
    return Way(family, int(length), 0, 0, 4, 0 if gateway else 253, False, tuple(kinds))


def route(
    network: str = "0.0.0.0/0",
    gateway: str = "",
    *,
    device: int = DEVICE,
    table: int = MAIN,
    metric: int = 0,
) -> Placed:
    return Placed(way(network, gateway), device, table, metric)


NETWORK = route("192.0.2.0/24")
DEFAULT = route(gateway="192.0.2.1", metric=100)
AWAY = route("198.51.100.0/24", "192.0.2.1", table=77)
NETWORK6 = route("2001:db8::/64", metric=256)
DEFAULT6 = route("::/0", "2001:db8::1", metric=1024)
LINK6 = route("fe80::/64", metric=256)
LOCAL = route("192.0.2.11/32", table=255)
ALL = (NETWORK, DEFAULT, AWAY, NETWORK6, DEFAULT6, LINK6, LOCAL)
MOVED = frozenset({NETWORK, DEFAULT, AWAY, NETWORK6, DEFAULT6})


@dataclass
class Kernel:
    """Routes as the kernel keeps them: one of a kind, unless told to put another beside it."""

    routes: list[Placed] = field(default_factory=list)
    rules: set[routing.Rule] = field(default_factory=set)

    def scene(self) -> standby.Scene:
        return standby.Scene(
            DEVICE, BRIDGE, (), (), frozenset(), tuple(self.routes), frozenset(self.rules)
        )

    def carry_out(self, message: Message, meant: dict[bytes, Placed | routing.Rule]) -> None:
        what = meant[message.body]
        if isinstance(what, routing.Rule):
            (self.rules.add if message.purpose.startswith("add") else self.rules.discard)(what)
            return
        if message.purpose.startswith("drop"):
            if what in self.routes:
                self.routes.remove(what)
            return
        if not what.way.direct:
            assert self.reaches(what), what
        if what in self.routes:
            return
        same = [r for r in self.routes if r.rivals(what)]
        if message.flags & copies.APPEND or not same:
            self.routes.append(what)
        else:
            self.routes[self.routes.index(same[0])] = what

    def reaches(self, what: Placed) -> bool:
        """True if there is a direct route by the device on which the gateway is."""
        return any(r.index == what.index and r.way.direct for r in self.routes)


def meaning(kernel: Kernel) -> dict[bytes, Placed | routing.Rule]:
    """What the bodies of messages stand for, of everything that can be meant here."""
    found: dict[bytes, Placed | routing.Rule] = {}
    for known in list(kernel.routes):
        for index in (DEVICE, BRIDGE, OTHER):
            for table, metric in (
                (known.table, known.metric),
                (standby.TABLE, known.metric),
                (MAIN, known.metric),
                (known.table, known.metric + standby.FURTHER),
                (known.table, max(0, known.metric - standby.FURTHER)),
            ):
                placed = replace(known, index=index, table=table, metric=metric)
                found[copies.put_route(placed).body] = placed
    for version in (4, 6):
        rule = routing.Rule(version, standby.PRIORITY, 0, 0, standby.TABLE, "")
        found[routing.add_rule(rule).body] = rule
    return found


STEPS: tuple[Callable[[standby.Scene], list[Message]], ...] = (
    standby.standing_by,
    standby.by_bridge,
)


def run(kernel: Kernel, step: Callable[[standby.Scene], list[Message]], most: int = 1000) -> int:
    """Carry out at most so many messages of a step; how many are left."""
    messages = step(kernel.scene())
    meant = meaning(kernel)
    for message in messages[:most]:
        kernel.carry_out(message, meant)
    return max(0, len(messages) - most)


def led(kernel: Kernel) -> None:
    for step in STEPS:
        run(kernel, step)


def destinations(kernel: Kernel) -> set[tuple[Way, int]]:
    """Where the node can send to, in which tables; what stands by counts where it was."""
    found = set()
    for one in kernel.routes:
        if one.table == standby.TABLE:
            found.add((one.way, MAIN))
        else:
            found.add((one.way, one.table))
    return found


def test_everything_leads_by_the_bridge() -> None:
    kernel = Kernel(list(ALL))
    led(kernel)
    assert {replace(r, index=BRIDGE) for r in MOVED} <= set(kernel.routes)
    assert not MOVED & set(kernel.routes)
    assert {LINK6, LOCAL} <= set(kernel.routes)
    assert {r.table for r in kernel.routes if r.index == DEVICE} == {standby.TABLE, 77, MAIN, 255}
    assert {rule.version for rule in kernel.rules} == {4, 6}


def test_then_there_is_nothing_to_do() -> None:
    kernel = Kernel(list(ALL))
    led(kernel)
    assert [step(kernel.scene()) for step in STEPS] == [[], []]


def test_without_the_bridges_port_all_stands_by() -> None:
    kernel = Kernel(list(ALL))
    led(kernel)
    kernel.routes = [r for r in kernel.routes if r.index != BRIDGE]
    assert destinations(kernel) == {(r.way, r.table) for r in ALL}
    led(kernel)
    assert {replace(r, index=BRIDGE) for r in MOVED} <= set(kernel.routes)


def test_and_back() -> None:
    kernel = Kernel(list(ALL))
    led(kernel)
    run(kernel, standby.given_back)
    assert (set(kernel.routes), kernel.rules) == (set(ALL), set())


def test_the_same_network_on_another_device_keeps_its_route() -> None:
    rival = replace(NETWORK, index=OTHER)
    kernel = Kernel([rival, *ALL])
    led(kernel)
    assert {rival, replace(NETWORK, index=BRIDGE)} <= set(kernel.routes)
    assert NETWORK not in kernel.routes
    run(kernel, standby.given_back)
    assert set(kernel.routes) == {rival, *ALL}


@given(seed=st.integers(0, 1 << 32))
def test_whatever_it_is_interrupted_by_no_way_is_lost(seed: int) -> None:
    """Steps end in the middle, the bridge's port goes, in any order; in the end all is well."""
    chance = random.Random(seed)
    kernel = Kernel(list(ALL))
    wanted = {(r.way, r.table) for r in ALL}
    for _ in range(chance.randint(0, 12)):
        step = chance.choice([*STEPS, standby.given_back, None])
        if step is None:
            kernel.routes = [r for r in kernel.routes if r.index != BRIDGE]
        elif step is standby.by_bridge and standby.standing_by(kernel.scene()):
            # It comes after the other one, always.
            run(kernel, standby.standing_by)
        else:
            run(kernel, step, chance.randint(0, 12))
        assert wanted <= destinations(kernel)
    if chance.random() < 0.5:
        led(kernel)
        assert {replace(r, index=BRIDGE) for r in MOVED} <= set(kernel.routes)
    run(kernel, standby.given_back)
    assert set(kernel.routes) == set(ALL)


def held(address: str, *, copied: bool = False) -> Held:
    packed = ip_address(address).packed
    family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
    return Held(family, packed, packed, b"", 24, 0, False, copied)


@pytest.mark.parametrize(
    ("device", "bridge", "words"),
    [
        (["192.0.2.11"], [], ["copy address 192.0.2.11/24 to 7"]),
        (["192.0.2.11"], ["192.0.2.11"], []),
        ([], ["192.0.2.11"], ["drop address 192.0.2.11/24 of 7"]),
        (["fe80::1"], [], []),
    ],
)
def test_addresses(device: list[str], bridge: list[str], words: list[str]) -> None:
    scene = replace(
        Kernel().scene(),
        device_addresses=tuple(map(held, device)),
        bridge_addresses=tuple(held(address, copied=True) for address in bridge),
    )
    assert [message.purpose for message in standby.addresses(scene)] == words


def test_an_address_that_the_bridge_was_given_stays() -> None:
    scene = replace(Kernel().scene(), bridge_addresses=(held("192.0.2.99"),))
    assert standby.addresses(scene) == standby.given_back(scene) == []
