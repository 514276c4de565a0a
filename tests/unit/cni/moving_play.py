"""A switch whose flows change while the agent looks for connections to end, and its thread."""

from __future__ import annotations

import contextlib
import random
import select
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address

import pytest
from flow_monitoring import ADDED, REMOVED, reply, stamp_update, update

from ovsnet.cni.flowupdates import Kind, WatchError, updates
from ovsnet.cni.leads import Leads
from ovsnet.cni.moving import Moving
from ovsnet.cni.servedudp import ServedUdp, deletion
from ovsnet.cni.stampwatch import Stamp
from ovsnet.flows import service
from ovsnet.flows.flow import Flow
from ovsnet.flows.service import EndpointSet, Target, mark_of
from ovsnet.model import Protocol

ENDPOINTS = 4
CLIENTS = 6


class OverError(Exception):
    """The play is over."""


def endpoint_set(number: int) -> EndpointSet:
    return EndpointSet(number + 1, 4, Protocol.UDP)


def target(number: int) -> Target:
    return Target(ip_address("10.244.1.0") + number, 53)


def mark(number: int) -> int:
    return mark_of(endpoint_set(number), target(number))


def flow(number: int) -> Flow:
    (found,) = service.balance(endpoint_set(number), (target(number),))
    return found


def connection(client: int, number: int) -> ServedUdp:
    return ServedUdp(
        "10.244.2.9", 1000 + client, "10.96.0.10", 53, str(target(number).address), 53, mark(number)
    )


@dataclass
class Switch:
    """A switch whose flows change, whose cache lags behind, and which tracks connections.

    Endpoints, clients: by their numbers. `step` is called wherever something may happen beside.
    """

    flows: set[int] = field(default_factory=set)
    cached: set[int] = field(default_factory=set)
    """Endpoints that packets may be sent to yet, though flows no longer lead there."""
    tracked: dict[int, int] = field(default_factory=dict)
    serial: int = 0
    untold: list[bytes] = field(default_factory=list)
    leads: Leads = field(default_factory=Leads)
    step: Callable[[], None] = lambda: None
    looks: int = 0
    ended: list[int] = field(default_factory=list)
    absent: set[int] = field(default_factory=set)
    """Endpoints to which no flow led at some time since the tracker was read last."""
    refuses: str = ""
    chance: random.Random | None = None
    """Of what has not been told yet some is told; otherwise all."""

    def change(self, *, add: Sequence[int] = (), remove: Sequence[int] = ()) -> None:
        """One bundle: other flows, and the stamp."""
        for number in remove:
            if number in self.flows:
                self.flows.remove(number)
                self.cached.add(number)
                self.absent.add(number)
                self.untold.append(update(REMOVED, flow(number)))
        for number in add:
            if number not in self.flows:
                self.flows.add(number)
                self.untold.append(update(ADDED, flow(number)))
        self.stamp()

    def stamp(self) -> None:
        self.serial += 1
        self.untold.append(stamp_update(ADDED, self.serial % 3, self.serial))

    def wipe(self) -> None:
        """Somebody removes all flows."""
        self.change(remove=list(self.flows))
        self.untold[-1] = stamp_update(REMOVED, self.serial % 3, self.serial)

    @property
    def newest(self) -> Stamp:
        return Stamp(self.serial % 3, self.serial)

    def send(self, client: int, number: int) -> None:
        """A client's packet: to its endpoint, or to this one if it has none and may."""
        if client not in self.tracked and number in self.flows | self.cached:
            self.tracked[client] = number

    # --- what the thread sees ---

    def catch_up(self) -> None:
        self.step()
        whole = len(self.untold)
        self.tell(self.chance.randint(0, whole) if self.chance else whole)

    def synchronise(self) -> None:
        self.step()
        self.tell(len(self.untold))
        self.step()

    def tell(self, number: int) -> None:
        """So many of the changes that have not been told yet."""
        for each in updates(reply(*self.untold[:number])):
            self.leads.told(each)
        del self.untold[:number]

    def wait(self, seconds: float | None, bell: int) -> None:
        raise OverError

    def connections(self) -> list[ServedUdp]:
        self.step()
        self.looks += 1
        self.absent = set(range(ENDPOINTS)) - self.flows
        found = [connection(client, number) for client, number in self.tracked.items()]
        self.step()
        return found

    def order(self, kind: Kind, bodies: Sequence[bytes]) -> None:
        if self.refuses:
            raise WatchError(self.refuses)
        assert kind is Kind.EXPERIMENTER
        for body in bodies:
            for client, number in list(self.tracked.items()):
                if deletion(connection(client, number)) == body:
                    self.ended.append(client)
                    assert number in self.absent, "a connection to an endpoint that is there"
                    del self.tracked[client]
        self.step()


def moving(switch: Switch, clock: Callable[[], float] = lambda: 0.0) -> Moving:
    def opened() -> contextlib.nullcontext[Switch]:
        return contextlib.nullcontext(switch)

    return Moving(opened, opened, clock)


def play(switch: Switch, *steps: Callable[[], None], found: Moving | None = None) -> Moving:
    """Let the thread follow the switch; a step is taken whenever it has nothing to do."""
    left = list(steps)

    def wait(seconds: float | None, bell: int) -> None:
        assert not select.select([bell], [], [], 0)[0], "it would not wait"
        if not left:
            raise OverError
        left.pop(0)()

    switch.wait = wait  # type: ignore[method-assign]
    found = found or moving(switch)
    with pytest.raises(OverError):
        found.follow()
    return found
