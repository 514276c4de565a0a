"""Which controllers there are: as configured, or those behind a service in the cluster."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, Protocol

import msgspec

from ovsnet import logs
from ovsnet.api.listening import Listening
from ovsnet.cni.source import Watch
from ovsnet.model import IPAddress

_log = logs.get("discovery")

OPENFLOW: Final = "openflow"
"""Name of the service's port for switches."""

AGENTS: Final = "agents"
"""Name of its port for agents."""


class Controllers(msgspec.Struct, frozen=True):
    """Where controllers are: targets for the switch (ovs-vswitchd.conf.db(5)), URLs for agents."""

    targets: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()


def controllers_of(listening: Iterable[Listening], *, plain: bool) -> Controllers:
    """The controllers that listen there, in plain text or with TLS. One that lacks a port is none
    for whoever wants that.
    """
    openflow, http = ("tcp", "http") if plain else ("ssl", "https")
    found = tuple(listening)
    return Controllers(
        tuple(
            f"{openflow}:{_host(each.address)}:{each.ports[OPENFLOW]}"
            for each in found
            if OPENFLOW in each.ports
        ),
        tuple(
            f"{http}://{_host(each.address)}:{each.ports[AGENTS]}"
            for each in found
            if AGENTS in each.ports
        ),
    )


def _host(address: IPAddress) -> str:
    return f"[{address}]" if address.version == 6 else str(address)


class ControllerSource(Protocol):
    """Tells which controllers there are."""

    def controllers(self) -> Controllers:
        """As last heard."""

    def start(self, changed: Callable[[], None]) -> None:
        """Begin to listen; `changed` is called, in any thread, when there is news."""

    def stop(self) -> None:
        """Listen no more."""


class FixedControllers:
    """Those that the configuration names."""

    def __init__(self, controllers: Controllers) -> None:
        self._controllers = controllers

    def controllers(self) -> Controllers:
        """The configured ones."""
        return self._controllers

    def start(self, changed: Callable[[], None]) -> None:
        """Nothing ever changes."""

    def stop(self) -> None:
        """There is nothing to stop."""


class WatchedControllers:
    """Those behind a service, which a watch hands in; remembered over restarts in a file.

    A node whose API server is away when the agent starts goes on with those that it knew. When
    there are none any more they are kept, too: the next ones are often where the last ones were,
    and to try costs nothing.
    """

    def __init__(
        self, memory: Path, watch: Callable[[Callable[[Controllers], None]], Watch]
    ) -> None:
        """`watch` makes, not yet started, what calls its argument with all that there are."""
        self._memory = memory
        self._lock = threading.Lock()
        self._controllers = self._remembered()
        self._changed: Callable[[], None] = lambda: None
        self._watch = watch(self._heard)

    def controllers(self) -> Controllers:
        """Those that were last heard of, before that as remembered."""
        with self._lock:
            return self._controllers

    def start(self, changed: Callable[[], None]) -> None:
        """Begin to watch."""
        self._changed = changed
        self._watch.start()

    def stop(self) -> None:
        """End the watch."""
        self._watch.stop()

    def _remembered(self) -> Controllers:
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            return msgspec.json.decode(self._memory.read_bytes(), type=Controllers)
        return Controllers()

    def _heard(self, new: Controllers) -> None:
        with self._lock:
            old = self._controllers
            if not new.targets or new == old:
                return
            self._controllers = new
        _log.info("controllers", targets=list(new.targets))
        partial = self._memory.with_suffix(".partial")
        partial.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(msgspec.json.encode(new))
        partial.rename(self._memory)
        self._changed()
