"""The controller's log: a line for every result that matters."""

from __future__ import annotations

from ovsnet import logs
from ovsnet.controller.notices import (
    Acknowledged,
    Admitted,
    Compared,
    Fenced,
    Lost,
    NotCounted,
    PortsChanged,
    Settled,
    StandingBy,
    Synchronised,
    TurnedAway,
    WriteFailed,
)
from ovsnet.controller.results import (
    Departed,
    Leads,
    PortRefused,
    Ready,
    ReportRefused,
    Result,
    StandsBy,
)
from ovsnet.flows.flow import Flow
from ovsnet.flows.text import print_flow

_MOST_OBJECTIONS = 1000
"""So many refused reports are written down; the metrics count all of them."""


class Logbook:
    """Writes down what happens."""

    def __init__(self) -> None:
        self._log = logs.get("controller")
        self._objected: set[ReportRefused] = set()

    def __call__(self, result: Result) -> None:
        """Write a result down, if it matters."""
        log = self._log
        match result:
            case Leads(term):
                log.info("leads", term=term)
            case StandsBy():
                log.warning("stands by")
            case StandingBy(node, connection, ports):
                log.info("switch known", node=node, connection=connection, ports=len(ports))
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
            case Compared():
                self._write_comparison(result)
            case Acknowledged(node, revision, _, written, seconds):
                ms = round(seconds * 1000, 1)
                log.info("flows acknowledged", node=node, revision=revision, written=written, ms=ms)
            case Settled(node, revision, seconds):
                ms = round(seconds * 1000, 1)
                log.info("flows in effect", node=node, revision=revision, ms=ms)
            case ReportRefused():
                self._write_objection(result)
            case WriteFailed(node, revision, reason, retry_in):
                log.error(
                    "flows refused", node=node, revision=revision, reason=reason, retry_in=retry_in
                )
            case Fenced(node, generation, reason, seen):
                log.error(
                    "switch is led by another",
                    node=node,
                    generation=generation,
                    seen=seen,
                    reason=reason,
                )
            case Lost(node, _, reason):
                log.warning("switch lost", node=node, reason=reason)
            case NotCounted(node, reason):
                log.warning("drops not counted", node=node, reason=reason)
            case Departed(node):
                log.info("node left the cluster", node=node)
            case PortRefused(node, refusal):
                log.warning(
                    "port refused",
                    node=node,
                    port=refusal.port.name,
                    address=refusal.address,
                    pods=[str(pod) for pod in refusal.pods],
                    reason=str(refusal.reason),
                )

    def _write_objection(self, refused: ReportRefused) -> None:
        """Whoever is not believed tries again and again: said once of each, and not of too many."""
        if refused in self._objected or len(self._objected) >= _MOST_OBJECTIONS:
            return
        self._objected.add(refused)
        self._log.warning(
            "report refused", node=refused.node, address=refused.address, reason=refused.reason
        )

    def _write_comparison(self, result: Compared) -> None:
        for stranger in result.strangers:
            text = print_flow(stranger) if isinstance(stranger, Flow) else str(stranger)
            self._log.warning("stranger removed", node=result.node, flow=text)
        self._log.info(
            "flows compared",
            node=result.node,
            audit=result.audit,
            equal=result.equal,
            missing=result.missing,
            changed=result.changed,
            stale=result.stale,
            strangers=len(result.strangers),
        )
