"""First packets of many connections, sent for real, and which of them come out where they should.

Whether a packet does not arrive can only be said of one that had its chance. So every volley is
followed on every way by packets that nobody can forbid: between pods and their own nodes, and
through the tunnels between pods that no policy selects. Once those have come, a packet that was
sent before them has come too or never will.
"""

from __future__ import annotations

import re
import select
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, permutations

import frames
from places import Place, PodPlace
from slowness import SLOW
from town import Town
from wire import Taps, datagram, mark

from ovsnet.names import ROUTER_MAC, pod_mac
from ovsnet.policy.evaluate import Traffic

_MARK = re.compile(rb"#[0-9a-f]{14}#")
_AT_ONCE = 64
_ATTEMPTS = 5
_PATIENCE = 2.0 * SLOW
_CLIENT_PORTS = range(20000, 60000)


@dataclass(frozen=True)
class Shot:
    """The first packet of a connection: who sends it, and where it has to come out."""

    traffic: Traffic
    client_port: int
    token: bytes
    sender: str
    target: str

    @property
    def ends(self) -> frames.Ends:
        traffic = self.traffic
        return frames.Ends(
            traffic.protocol,
            traffic.source,
            self.client_port,
            traffic.destination,
            traffic.port or 0,
        )

    def frame(self, source_mac: str) -> bytes:
        protocol, source, client, target, port = self.ends
        if protocol == frames.UDP:
            payload = frames.udp(source, target, self.token, client, port)
        elif protocol == frames.TCP:
            payload = frames.tcp(source, target, self.token, frames.SYN, client, port)
        else:
            payload = frames.echo(source, target, self.token)
        kind = frames.IPV4 if source.version == 4 else frames.IPV6
        packet = frames.ip(source, target, protocol, payload)
        return frames.ethernet(ROUTER_MAC, source_mac, kind, packet)


@dataclass(frozen=True)
class Seen:
    """What has come to one place: marks, and who said something to whom."""

    marks: frozenset[bytes]
    ends: frozenset[frames.Ends | None]

    def answers(self, shot: Shot) -> bool:
        """Whether the target's kernel has answered, where it has to (it may leave UDP alone)."""
        match shot.traffic.protocol:
            case frames.UDP:
                return True
            case frames.TCP:
                return shot.ends.reversed in self.ends
        return shot.token in self.marks


class Volley:
    """Sends into a town, and looks at every place in it."""

    def __init__(self, town: Town, taps: Taps) -> None:
        self._town = town
        self._taps = taps
        self._client_ports = cycle(_CLIENT_PORTS)

    def disagreements(
        self, traffics: Iterable[Traffic], allowed: Callable[[Traffic], bool]
    ) -> list[str]:
        """What happens otherwise than `allowed` says, in words. Of what passes the answer counts
        too, if it is a pod that has to give it to a pod.

        Where queues overflow packets are lost: what should arrive is sent again.
        """
        found, left = [], list(traffics)
        for _ in range(_ATTEMPTS):
            lost = []
            for start in range(0, len(left), _AT_ONCE):
                for shot, fault in self._fly(left[start : start + _AT_ONCE], allowed):
                    if fault.startswith("no "):
                        lost.append((shot.traffic, fault))
                    else:
                        found.append(f"{shot.traffic}: {fault}")
            if not lost:
                return found
            left = [traffic for traffic, _ in lost]
        return found + [f"{traffic}: {fault}, {_ATTEMPTS} times" for traffic, fault in lost]

    def _fly(
        self, traffics: Sequence[Traffic], allowed: Callable[[Traffic], bool]
    ) -> Iterator[tuple[Shot, str]]:
        self._taps.forget()
        shots = [self._shot(traffic) for traffic in traffics]
        for shot in shots:
            self._taps.send(shot.sender, shot.frame(self._mac(shot.sender)))
        # What arrives is answered at once: the second round is behind the answers.
        self.flush()
        self.flush()
        seen = {name: self._seen(name) for name in self._town.places}
        for shot in shots:
            where = {name for name, each in seen.items() if shot.token in each.marks}
            astray = where - {shot.sender, shot.target}
            if astray:
                yield shot, f"came out at {', '.join(astray)}"
            elif allowed(shot.traffic) != (shot.target in where):
                yield shot, "arrived" if shot.target in where else "no packet arrived"
            elif shot.target in where and not self._answered(shot, seen):
                yield shot, "no answer came"

    def _answered(self, shot: Shot, seen: dict[str, Seen]) -> bool:
        between_pods = {shot.sender, shot.target}.isdisjoint(self._town.nodes)
        return not between_pods or seen[shot.sender].answers(shot)

    def _seen(self, name: str) -> Seen:
        got = self._taps[name].seen
        marks = frozenset(found for frame in got for found in _MARK.findall(frame))
        return Seen(marks, frozenset(map(frames.ends, got)))

    def _shot(self, traffic: Traffic) -> Shot:
        """What is from or to no pod goes by the node of the pod at its other end."""
        town = self._town
        source, target = town.pod_of(traffic.source), town.pod_of(traffic.destination)
        gateways = {place.address(v): name for name, place in town.nodes.items() for v in (4, 6)}
        sender = gateways.get(str(traffic.source), "") or (target.node if target else "")
        end = gateways.get(str(traffic.destination), "") or (source.node if source else "")
        return Shot(
            traffic,
            next(self._client_ports),
            mark(),
            source.name if source else sender,
            target.name if target else end,
        )

    def _mac(self, name: str) -> str:
        return pod_mac(self._town.places[name].ipv4)

    def flush(self) -> None:
        """Return when everything that was sent before has gone all the way."""
        pods = [*self._town.pods.values(), *self._town.quiet.values()]
        ways = [way for pod in pods for way in self._to_and_from_node(pod)]
        self._wait(ways)
        # A switch keeps the order of a queue, but not within one batch of it; hence twice.
        through = list(permutations(self._town.quiet.values(), 2))
        self._wait(through)
        self._wait(through)

    def _to_and_from_node(self, pod: PodPlace) -> Iterator[tuple[Place, Place]]:
        node = self._town.nodes[pod.node]
        yield from ((pod, node), (node, pod))

    def _wait(self, ways: Sequence[tuple[Place, Place]]) -> None:
        """Send a marked packet on each of these ways, and wait until all have come."""
        tokens = {way: mark() for way in ways}
        for _ in range(_ATTEMPTS):
            for (source, target), token in tokens.items():
                frame = datagram(
                    self._mac(source.name), ROUTER_MAC, source.ipv4, target.ipv4, token
                )
                self._taps.send(source.name, frame)
            deadline = time.monotonic() + _PATIENCE
            while (left := deadline - time.monotonic()) > 0:
                self._taps.read()
                for way in [w for w, t in tokens.items() if self._taps[w[1].name].has(t)]:
                    del tokens[way]
                if not tokens:
                    return
                select.select([self._taps[w[1].name].socket for w in tokens], [], [], left)
        ways_left = ", ".join(f"{source.name} to {target.name}" for source, target in tokens)
        raise AssertionError(f"a packet that nobody forbids has not come from {ways_left}")
