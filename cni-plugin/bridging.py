"""Puts the underlay device into a bridge of its own, and takes it out again.

See `uplink` for the bridge, `standby` for the node's addresses and routes. Every step leaves the
node connected, and the next round goes on from wherever the last one ended.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

from ovsnet import logs
from ovsnet.cni import links, netns, nft, offload, standby, uplink
from ovsnet.cni.netlink import Message, Netlink
from ovsnet.cni.ovsdb import Database, DatabaseUnreachable
from ovsnet.cni.underlay import UnderlayError, find
from ovsnet.cni.uplink import RECEIVE_OFFLOAD, NotOursError, Uplink

_log = logs.get("bridging")
_SWITCH_SECONDS = 5.0
_POLL_SECONDS = 0.01
REPEATED = "ovsnet-underlay"
"""The packet filter's table against packets that come twice."""

_LEAST_SECONDS = 15.0
_LIKE_DEVICE = ("ipv4/conf/{}/rp_filter", "ipv6/conf/{}/accept_ra", "ipv6/conf/{}/disable_ipv6")
_BY_CARRIER = tuple(f"{ip}/conf/{{}}/ignore_routes_with_linkdown" for ip in ("ipv4", "ipv6"))
"""Routes by the bridge count only as long as ovs-vswitchd holds its port."""


def repeated(device: str, bridge: str, seconds: float) -> str:
    """The nft script that drops what the device brings up the node's own stack, as the same packet
    comes by the bridge (Open vSwitch's manual, "Using the userspace datapath").

    It holds for so many seconds only: should ovs-vswitchd end while nobody is there to take it
    away, the node must not stay deaf. Packets whose answers would not go by the bridge are let
    through.
    """
    return (
        f"table inet {REPEATED}\n"
        f"delete table inet {REPEATED}\n"
        f"table inet {REPEATED} {{\n"
        "  set bridged {\n"
        "    type ifname; flags timeout;\n"
        f'    elements = {{ "{device}" timeout {round(seconds)}s }}\n'
        "  }\n"
        "  chain arrivals {\n"
        "    type filter hook prerouting priority raw - 10; policy accept;\n"
        f'    iifname @bridged fib saddr oifname "{bridge}" drop\n'
        "  }\n"
        "}\n"
    )


_NOTHING_REPEATED = f"table inet {REPEATED}\ndelete table inet {REPEATED}\n"


class Bridging:
    """Keeps the underlay device in the bridge `name`, or in none if it is empty."""

    def __init__(
        self,
        name: str,
        underlay: str,
        database: Database,
        checkpoint: Callable[[str], None],
        interval: float,
        *,
        overlay: bool = True,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`underlay` names the device; empty: that of the default route. `guard` is called every
        `interval` seconds. `overlay` says whether there is one.
        """
        self._name = name
        self._underlay = underlay
        self._database = database
        self._checkpoint = checkpoint
        self._overlay = overlay
        self._seconds = max(_LEAST_SECONDS, 3 * interval)
        self._clock = clock
        self._sleep = sleep
        self._device = ""
        self._known = 0
        self._dropping = 0.0
        self._said = ""

    def device(self, netlink: Netlink) -> str:
        """The underlay device, also when its routes lead by the bridge.

        Raises:
            DatabaseUnreachable: Open vSwitch's database does not answer.
            UnderlayError: there is none.
        """
        if self._underlay or not self._name:
            return self._underlay
        standing = standby.devices(netlink)
        made = uplink.read(self._database).made().get(self._name)
        names = [link.name for link in links.links(netlink) if link.index in standing]
        return made or (names[0] if names else find(netlink, "")[0].name)

    def guard(self, netlink: Netlink) -> None:
        """Drop what comes twice, as long as the bridge's port lives.

        Raises:
            PacketFilterError: nft is missing or refuses.
        """
        if not self._device:
            return
        port = _link(netlink, self._name)
        if port is None or not port.carrier:
            if self._dropping:
                nft.run(["-f", "-"], _NOTHING_REPEATED)
                self._dropping = 0.0
                _log.warning("underlay's bridge is gone; its device stands in", bridge=self._name)
        elif not self._dropping or self._clock() - self._dropping > self._seconds / 6:
            nft.run(["-f", "-"], repeated(self._device, self._name, self._seconds))
            self._dropping = self._clock()

    def ensure(self, netlink: Netlink, *, userspace: bool) -> None:
        """Make the bridge and let everything lead by it.

        Raises:
            DatabaseUnreachable, TransactionError: Open vSwitch's database.
            NetlinkError: the kernel refused.
            UnderlayError: the device or the bridge is not what it must be.
        """
        wanted = self._name if userspace else ""
        if self._name and not userspace:
            self._say("underlay_bridge is not needed with the kernel's datapath")
        present = uplink.read(self._database)
        for name in present.made():
            if name != wanted:
                release(netlink, self._database, name, self._checkpoint, self._sleep)
        if not wanted:
            if userspace and self._overlay:
                self._check(netlink, present)
            return
        name = self.device(netlink)
        device = _link(netlink, name)
        if device is None:
            raise UnderlayError(f"underlay: the node has no device {name!r}")
        self._bridge(netlink, device)
        self._lead(netlink, device)
        self._device = device.name
        self.guard(netlink)

    def _check(self, netlink: Netlink, present: uplink.Present) -> None:
        """Say so where the overlay cannot work, as nobody has made a bridge."""
        try:
            device = find(netlink, self._underlay)[0].name
        except UnderlayError:
            # What is to be configured is said elsewhere, if it matters.
            return
        if device not in present.bridges:
            self._say(
                f"pods of other nodes cannot be reached: the userspace datapath sends the overlay"
                f" by a bridge alone, and {device} is none; set underlay_bridge"
            )

    def _say(self, words: str) -> None:
        if words != self._said:
            _log.warning(words)
        self._said = words

    def _bridge(self, netlink: Netlink, device: links.Link) -> None:
        """See that the bridge is there, and that ovs-vswitchd has opened the device."""
        present = uplink.read(self._database)
        try:
            operations = uplink.reconcile(Uplink(self._name, device.name, device.mac), present)
        except NotOursError as error:
            raise UnderlayError(str(error)) from None
        port = _link(netlink, self._name)
        if not operations and port is not None and port.index == self._known and port.carrier:
            return
        self._database.transact([*operations, uplink.ASK_FOR_A_LOOK])
        if operations:
            _log.info("underlay's bridge configured", bridge=self._name, device=device.name)
        self._checkpoint("bridged")
        waited = 0.0
        while True:
            port = _link(netlink, self._name)
            if uplink.looked(self._database) and port is not None:
                fault = uplink.fault(self._database, device.name)
                if fault:
                    raise UnderlayError(
                        f"underlay_bridge: ovs-vswitchd cannot open {device.name}: {fault}"
                    )
                break
            if waited > _SWITCH_SECONDS:
                raise UnderlayError(f"underlay_bridge: Open vSwitch did not make {self._name}")
            self._sleep(_POLL_SECONDS)
            waited += _POLL_SECONDS
        self._leave_as_received(device)
        for path in _BY_CARRIER:
            _set(path.format(self._name), "1")
        for path in _LIKE_DEVICE:
            with contextlib.suppress(OSError):
                _set(path.format(self._name), netns.read_sysctl(path.format(device.name)))
        netlink.run([links.set_up(port.index)])
        self._known = port.index

    def _leave_as_received(self, device: links.Link) -> None:
        """Open vSwitch loses packets that are larger than the device's MTU."""
        try:
            if offload.joins_received(device.name):
                self._database.transact([uplink.note(self._name, RECEIVE_OFFLOAD, "off")])
                offload.join_received(device.name, on=False)
        except OSError as error:
            _log.warning("receive offload stays as it is", device=device.name, reason=error)
        if device.kind == "veth":
            self._say(
                f"underlay device {device.name} is a veth: its other end must complete checksums"
                " (ethtool --offload DEVICE tx off)"
            )

    def _lead(self, netlink: Netlink, device: links.Link) -> None:
        """Give the bridge's port what the device has, and let the device stand by."""
        steps: tuple[tuple[str, Callable[[standby.Scene], list[Message]]], ...] = (
            ("mirrored", standby.addresses),
            ("standing by", standby.standing_by),
            ("led", standby.by_bridge),
        )
        for step, wanted in steps:
            messages = wanted(standby.read(netlink, device.index, self._known))
            if messages:
                netlink.run(messages)
                _log.info(
                    "underlay's addresses and routes",
                    step=step,
                    changes=[message.purpose for message in messages],
                )
            self._checkpoint(step)


def release(
    netlink: Netlink,
    database: Database,
    name: str,
    checkpoint: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Let everything lead by the device again and take the bridge away, also when Open vSwitch does
    not run. Repeating it is harmless.

    Raises:
        NetlinkError: the kernel refused.
        PacketFilterError: nft is missing or refuses.
        TransactionError: Open vSwitch's database refused.
    """
    nft.run(["-f", "-"], _NOTHING_REPEATED)
    port = _link(netlink, name)
    for index in standby.devices(netlink):
        scene = standby.read(netlink, index, port.index if port else 0)
        netlink.run(standby.given_back(scene))
    checkpoint("given back")
    try:
        present = uplink.read(database)
        device = present.made().get(name)
        if device is not None:
            if present.external_ids(name).get(RECEIVE_OFFLOAD) == "off":
                with contextlib.suppress(OSError):
                    offload.join_received(device, on=True)
            database.transact([*uplink.remove(name, present), uplink.ASK_FOR_A_LOOK])
            _log.info("underlay's bridge released", bridge=name, device=device)
    except DatabaseUnreachable:
        _log.warning("Open vSwitch's database does not answer; the bridge stays in it", bridge=name)
    checkpoint("released")
    waited = 0.0
    while port is not None and _link(netlink, name) is not None and waited < _SWITCH_SECONDS:
        sleep(_POLL_SECONDS)
        waited += _POLL_SECONDS
        if not port.carrier:
            # Open vSwitch has ended and left it.
            netlink.run([links.delete_link(name)])


def _link(netlink: Netlink, name: str) -> links.Link | None:
    return next((link for link in links.links(netlink) if link.name == name), None)


def _set(path: str, value: str) -> None:
    if netns.read_sysctl(path) != value:
        netns.write_sysctl(path, value)
