"""Carries out what `adopt` decides, one pod at a time under the pod's lock."""

from __future__ import annotations

from dataclasses import replace

from ovsnet import logs
from ovsnet.cni import adopt, links, ports, result
from ovsnet.cni.adopt import Observed, Repairs
from ovsnet.cni.conf import PodRef
from ovsnet.cni.edges import Edges, pod_key
from ovsnet.cni.endpoint import Endpoints
from ovsnet.cni.errors import CniError
from ovsnet.cni.locks import Busy
from ovsnet.cni.netlink import Netlink, NetlinkError
from ovsnet.cni.node import Network
from ovsnet.cni.ovsdb import TransactionError
from ovsnet.cni.record import Record
from ovsnet.cni.teardown import Teardown

_log = logs.get("housekeeping")


class Housekeeping:
    """Brings records, switch and kernel together."""

    def __init__(self, edges: Edges, endpoints: Endpoints, teardown: Teardown) -> None:
        self._edges = edges
        self._teardown = teardown
        self._endpoints = endpoints
        self._strangers: frozenset[str] = frozenset()

    def observe(self) -> Observed:
        """The three views, now.

        The records come last: a port that an ADD has just made then has its record already.

        Raises:
            DatabaseUnreachable: no answer.
        """
        edges = self._edges
        on_bridge = tuple(ports.on_bridge(edges.database, edges.bridge))
        with Netlink() as netlink:
            names = frozenset(link.name for link in links.links(netlink))
        return Observed(tuple(edges.store.all()), on_bridge, names, edges.boot_id)

    def run(self, network: Network) -> int:
        """One round; returns how many things were repaired.

        Raises:
            DatabaseUnreachable: no answer.
        """
        found = adopt.decide(self.observe())
        self._report(frozenset(found.strangers))
        done = 0
        for record in (*found.remove, *found.forget, *found.plug, *found.adopt):
            done += self._repair(record, network)
        for port in found.unplug:
            if port in adopt.decide(self.observe()).unplug:
                _log.info("port without a pod removed", port=port)
                ports.detach(self._edges.database, self._edges.bridge, port)
                done += 1
        return done

    def _repair(self, record: Record, network: Network) -> int:
        """Look again with the pod's lock held, then do what is still to do.

        A pod that somebody works on is left to them.
        """
        try:
            with self._edges.locks.held(pod_key(record.pod), 0):
                return self._carry_out(record.pod, adopt.decide(self.observe()), network)
        except Busy:
            return 0
        except (TransactionError, NetlinkError, CniError) as error:
            _log.error("repair failed", pod=record.pod.text, port=record.port, error=error)
            return 0

    def _carry_out(self, pod: PodRef, repairs: Repairs, network: Network) -> int:
        edges = self._edges
        done = 0
        for record in repairs.remove:
            if pod_key(record.pod) == pod_key(pod):
                _log.info("what is left of a pod removed", pod=pod.text, port=record.port)
                self._teardown.dismantle(record)
                done += 1
        for record in repairs.forget:
            if pod_key(record.pod) == pod_key(pod):
                edges.store.end(record.attachment, edges.wall())
                done += 1
        for record in repairs.plug:
            if pod_key(record.pod) == pod_key(pod):
                _log.warning("port put back on the bridge", pod=pod.text, port=record.port)
                self._endpoints.plug(record)
                done += 1
        for record in repairs.adopt:
            if pod_key(record.pod) == pod_key(pod):
                _log.warning("running pod taken on record", pod=pod.text, port=record.port)
                edges.store.adopt(_with_result(record, network))
                done += 1
        return done

    def _report(self, strangers: frozenset[str]) -> None:
        for port in sorted(strangers - self._strangers):
            _log.warning("port is not ours; it gets no flows", port=port, bridge=self._edges.bridge)
        self._strangers = strangers


def _with_result(record: Record, network: Network) -> Record:
    """The record with the result that its ADD must have returned, as far as is known."""
    try:
        offset = network.ranges.offset_of(record.addresses)
    except ValueError:
        return record
    assert record.port is not None
    made = result.success(
        record.port,
        record.attachment.ifname,
        record.netns,
        network.mtu,
        network.ranges.addresses(offset),
        {},
    )
    return replace(record, offset=offset, result=made)
