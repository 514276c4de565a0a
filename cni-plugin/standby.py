"""The underlay device stands by for the bridge that it is a port of.

Open vSwitch's userspace datapath sends the tunnel's packets by a bridge of its own, whose port must
have the underlay's address (Open vSwitch's manual, "Native tunneling in Open vSwitch userspace").
So the bridge gets the device's addresses, and the device's routes lead by the bridge. The device
keeps both all the same:

- its addresses stay, those of the bridge are copies;
- a route out of the main table has its copy by the device in a table of its own, `TABLE`, which is
  looked up after all others; a route of another table has it in the same table with a metric that
  is higher by `FURTHER`. (In the main table Open vSwitch would take the two for one.)

So the kernel itself goes back to the device when the bridge's port is gone or has no carrier, which
is when ovs-vswitchd ends; nobody has to be there for that. And there is nothing to remember: every
route is somewhere at every moment, and what is missing is seen from what there is. A route is moved
by one message that puts one in the place of the other, so no packet comes in between. After a
reboot the device has what the host's own configuration gives it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from ovsnet.cni import copies, links, routing
from ovsnet.cni.copies import Held, Placed
from ovsnet.cni.netlink import REPLACE, Message, Netlink

TABLE = int.from_bytes(b"ow")
"""Number of the routing table with what the device has of the main one."""

PRIORITY = 32768
"""Of the rules that look it up: behind the kernel's own last one, 32767."""

FURTHER = 1 << 28
"""By how much higher the metric is where a route stands by in its own table."""

_LOCAL_TABLE = 255


@dataclass(frozen=True)
class Scene:
    """What the kernel has of the device and the bridge's port."""

    device: int
    bridge: int
    device_addresses: tuple[Held, ...]
    bridge_addresses: tuple[Held, ...]
    neighbours: frozenset[links.Neighbour]
    """The permanent ones, of both."""
    routes: tuple[Placed, ...]
    """All of the node."""
    rules: frozenset[routing.Rule]


def read(netlink: Netlink, device: int, bridge: int) -> Scene:
    """The scene as it is; `device` and `bridge` are indexes of links."""
    both = (device, bridge)
    return Scene(
        device,
        bridge,
        copies.held(netlink, device),
        copies.held(netlink, bridge),
        frozenset(n for n in links.permanent_neighbours(netlink) if n.index in both),
        copies.placed(netlink),
        frozenset(routing.rules(netlink, TABLE)),
    )


def devices(netlink: Netlink) -> frozenset[int]:
    """The indexes of the devices that stand by."""
    return frozenset(route.index for route in copies.placed(netlink) if _stands_by(route))


_RULES = tuple(routing.Rule(version, PRIORITY, 0, 0, TABLE, "") for version in (4, 6))


def _direct_first(routes: Iterable[Placed]) -> list[Placed]:
    """In an order in which every gateway can be reached when its route comes."""
    return sorted(routes, key=lambda r: (not r.way.direct, r.table, r.metric, str(r.way)))


def _stands_by(route: Placed) -> bool:
    return route.table == TABLE or FURTHER <= route.metric < 2 * FURTHER


def _aside(route: Placed) -> Placed:
    """Where the device's route stands by."""
    if route.table == routing.MAIN_TABLE:
        return replace(route, table=TABLE)
    return replace(route, metric=route.metric + FURTHER)


def _back(route: Placed) -> Placed:
    """Where a route was that stands by."""
    if route.table == TABLE:
        return replace(route, table=routing.MAIN_TABLE)
    return replace(route, metric=route.metric - FURTHER)


def _ours(scene: Scene) -> list[Placed]:
    """The device's routes that concern others than the device itself."""
    return [
        route
        for route in scene.routes
        if route.index == scene.device and route.table != _LOCAL_TABLE and not route.way.link_local
    ]


def addresses(scene: Scene) -> list[Message]:
    """The messages that give the bridge the device's addresses and neighbours, and take away those
    that the device has no more.
    """
    wanted = [replace(h, copied=True) for h in scene.device_addresses if not h.link_local]
    present = {h for h in scene.bridge_addresses if h.copied}
    known = {(n.address, n.mac) for n in scene.neighbours if n.index == scene.bridge}
    return [
        *(copies.drop_address(scene.bridge, h) for h in sorted(present - set(wanted), key=str)),
        *(copies.copy_address(scene.bridge, h) for h in wanted if h not in present),
        *(
            links.permanent_neighbour(scene.bridge, n.address, n.mac)
            for n in sorted(scene.neighbours, key=str)
            if n.index == scene.device and (n.address, n.mac) not in known
        ),
    ]


def standing_by(scene: Scene) -> list[Message]:
    """The messages by which the device's routes stand by."""
    there = set(scene.routes)
    wanted = [_aside(route) for route in _ours(scene) if not _stands_by(route)]
    return [
        *(copies.put_route(r) for r in _direct_first(wanted) if r not in there),
        *(routing.add_rule(rule) for rule in _RULES if rule not in scene.rules),
    ]


def _exchange(old: Placed, new: Placed, scene: Scene) -> list[Message]:
    """The messages that put one route in the place of another."""
    # The kernel replaces the first of its kind, which must not be somebody else's.
    others = (r for r in scene.routes if r.index not in (scene.device, scene.bridge))
    if not any(new.rivals(other) for other in others):
        return [copies.put_route(new, REPLACE)]
    return [copies.put_route(new, copies.APPEND), copies.drop_route(old)]


def by_bridge(scene: Scene) -> list[Message]:
    """The messages that let the device's routes lead by the bridge."""
    ours = _ours(scene)
    there = set(scene.routes)
    active = {route for route in ours if not _stands_by(route)}
    missing = {
        back
        for back in (_back(route) for route in ours if _stands_by(route))
        if back not in active and replace(back, index=scene.bridge) not in there
    }
    messages: list[Message] = []
    for route in _direct_first(active | missing):
        messages += _exchange(route, replace(route, index=scene.bridge), scene)
    return messages


def given_back(scene: Scene) -> list[Message]:
    """The messages that let everything lead by the device again, as it was before.

    The bridge's port may be gone already; then its index is 0.
    """
    standing = [route for route in _ours(scene) if _stands_by(route)]
    messages: list[Message] = []
    for route in _direct_first(map(_back, standing)):
        messages += _exchange(replace(route, index=scene.bridge), route, scene)
    messages += [copies.drop_route(route) for route in standing]
    messages += [routing.delete_rule(rule) for rule in sorted(scene.rules, key=str)]
    copied = [h for h in scene.bridge_addresses if h.copied]
    return [*messages, *(copies.drop_address(scene.bridge, h) for h in copied)]
