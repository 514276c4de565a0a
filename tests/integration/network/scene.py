"""The scene of the tests about forged packets: who sends, and who must not get it.

Every forged packet has its chance: honest ones follow it on the same way (see `wire`), and beside
each forgery stands an honest packet of the same make that does arrive.
"""

from __future__ import annotations

from dataclasses import dataclass

from places import Place, PodPlace
from sandbox_lab import Lab
from wire import Taps, datagram, mark

from ovsnet.names import ROUTER_MAC

NEIGHBOURS = ("b1", "a2", "a3", "node1", "node2", "outside")
ALL_NODES, ALL_NODES_MAC = "ff02::1", "33:33:00:00:00:01"
AT_ONCE = 32
LARGE = 1280
"""Userspace Open vSwitch takes a first fragment of less than 1200 bytes for an attack."""


@dataclass(frozen=True)
class Scene:
    """The attacker is pod a1 on node1; b1 is beside it, a2 and a3 are on other nodes."""

    lab: Lab
    pods: dict[str, PodPlace]
    taps: Taps
    places: dict[str, Place]

    @property
    def attacker(self) -> PodPlace:
        return self.pods["a1"]

    def send(self, *packets: bytes) -> None:
        """Send packets as the attacker, so few at a time that the switch's queue holds them."""
        for batch in range(0, len(packets), AT_ONCE):
            self.everything_has_arrived(*packets[batch : batch + AT_ONCE])

    def everything_has_arrived(self, *before: bytes) -> None:
        """Send these packets, and return when honest ones behind them have come to every place.

        A full queue loses its end. So if the honest ones are lost all are sent again.
        """
        tokens = {4: mark(), 6: mark()}

        def send() -> None:
            for packet in before:
                self.taps.send("a1", packet)
            for version, token in tokens.items():
                for name in NEIGHBOURS:
                    target = self.places[name].address(version)
                    self.taps.send("a1", self.honest(target, token, version))

        self.taps.wait(tokens.values(), NEIGHBOURS, send)

    def honest(self, target: object, token: bytes, version: int = 4, **kw: int) -> bytes:
        source = self.attacker.address(version)
        return datagram(self.attacker.mac, ROUTER_MAC, source, target, token, **kw)
