"""A network that hears of events one by one, and switches that do no more than it tells them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ovsnet.controller.network import Deltas, Network
from ovsnet.flows.flow import Flow, FlowKey

Event = Callable[[Network], Deltas]


class Followed:
    """A network, and switches that do what its deltas say."""

    def __init__(self) -> None:
        self.network = Network(hash)
        self.switches: dict[str, dict[FlowKey, Flow]] = {}

    def heard(self, *events: Event) -> None:
        """These happen in this order; each delta must be one of what the switch has."""
        for event in events:
            self._heard(event)

    def _heard(self, event: Event) -> None:
        deltas = event(self.network)
        for gone in self.switches.keys() - self.network.nodes.keys():
            del self.switches[gone]
        for name in self.network.nodes.keys() - self.switches.keys():
            assert name not in deltas
            self.switches[name] = dict(self.network.ledger(name).flows)
        for name, delta in deltas.items():
            for flow in delta.deletes:
                assert self.switches[name].pop(flow.key) == flow
            for flow in delta.adds:
                assert self.switches[name].get(flow.key) != flow
                self.switches[name][flow.key] = flow
            assert delta.digest == self.network.ledger(name).digest
            assert delta.revision == self.network.ledger(name).revision

    def expect_flows(self, fresh: Network, nodes: Iterable[str]) -> None:
        """The nodes and their switches have the flows of a network that was told all at once."""
        for name in nodes:
            ledger, expected = self.network.ledger(name), fresh.ledger(name)
            assert dict(ledger.flows) == dict(expected.flows)
            assert self.switches[name] == dict(expected.flows)
            assert ledger.digest == expected.digest
            assert len(ledger.flows) == len(self.switches[name])
