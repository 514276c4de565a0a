"""Shows what the controller does: a line in the log for what matters, numbers in the metrics, and
the state of everything as JSON.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from ovsnet import logs
from ovsnet.controller.brain import Brain, PortRefused, PortServed, Ready, Result
from ovsnet.controller.loop import Loop
from ovsnet.controller.notices import (
    Acknowledged,
    Admitted,
    Compared,
    Fenced,
    Lost,
    PortsChanged,
    Synchronised,
    TurnedAway,
    WriteFailed,
)


class Observer:
    """Called with every result of the brain, in the loop's thread."""

    def __init__(self, brain: Brain, generation: int, wall_clock: Callable[[], float]) -> None:
        self._brain = brain
        self._log = logs.get("controller")

    @contextlib.contextmanager
    def serve(self, address: tuple[str, int], loop: Loop) -> Iterator[None]:
        """Answer HTTP requests while the context lasts."""
        yield

    def __call__(self, result: Result) -> None:
        """Log a result and count it."""
        log = self._log
        match result:
            case Ready(nodes, pods):
                log.info("ready", nodes=nodes, pods=pods)
            case Admitted(node, connection, ports):
                log.info("switch admitted", node=node, connection=connection, ports=len(ports))
            case TurnedAway(_, address, name, reason):
                log.warning("switch turned away", address=address, claims=name, reason=reason)
            case PortsChanged(node, ports):
                log.debug("ports changed", node=node, ports=len(ports))
            case Synchronised(node, revision, flows):
                log.info("switch is in step", node=node, revision=revision, flows=flows)
            case Compared(node, audit, equal, missing, changed, stale, strangers):
                log.info("flows compared", node=node, audit=audit, equal=equal, missing=missing,
                         changed=changed, stale=stale, strangers=len(strangers))  # fmt: skip
            case Acknowledged(node, revision, _, written, seconds):
                log.info("flows acknowledged", node=node, revision=revision, written=written,
                         ms=round(seconds * 1000, 1))  # fmt: skip
            case WriteFailed(node, revision, reason, retry_in):
                log.error("flows refused", node=node, revision=revision, reason=reason,
                          retry_in=retry_in)  # fmt: skip
            case Fenced(node, generation, reason):
                log.error("switch is led by another", node=node, generation=generation,
                          reason=reason)  # fmt: skip
            case Lost(node, _, reason):
                log.warning("switch lost", node=node, reason=reason)
            case PortRefused(node, refusal):
                log.warning("port refused", node=node, port=refusal.port.name,
                            reason=str(refusal.reason), pods=[str(p) for p in refusal.pods],
                            address=refusal.address)  # fmt: skip
            case PortServed():
                pass
            case _:
                pass
