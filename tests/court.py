"""Where `why` is asked: a cluster whose switches hold the right flows until somebody meddles."""

from __future__ import annotations

import msgspec

from ovsnet.controller.inquiry.cases import case
from ovsnet.controller.inquiry.passage import Held
from ovsnet.controller.inquiry.questions import Question
from ovsnet.controller.inquiry.verdict import switches, verdict
from ovsnet.controller.inquiry.world import snapshot
from ovsnet.flows.words import owner_text


def held_of(network):
    """What every node's switch holds when it holds what it should."""
    return {
        name: Held(
            view.node,
            tuple(network.ledger(name).flows.values()),
            {p.ofport: p.name for p in view.ports},
        )
        for name, view in network.nodes.items()
    }


class Court:
    """The cluster of a network, and what its switches hold."""

    def __init__(self, network):
        self.network = network
        self.seen = snapshot(self.network)
        self.held = held_of(self.network)
        self.owners = {owner.cookie: owner_text(owner) for owner in network.owners}
        self.owners |= dict(network.enforcement.owners())

    def why(self, source, destination, protocol="", port=""):
        about = case(self.seen, Question(source, destination, protocol, str(port)))
        held = {name: self.held[name] for name in switches(self.seen, about)}
        return verdict(self.seen, about, held, self.owners)

    def meddle(self, name, change):
        """Replace the flows of a node's switch by what `change` makes of each (None: nothing)."""
        flows = [change(flow) for flow in self.held[name].flows]
        self.put(name, [flow for flow in flows if flow is not None])

    def put(self, name, flows):
        self.held[name] = msgspec.structs.replace(self.held[name], flows=tuple(flows))

    def add(self, name, *flows):
        self.put(name, [*self.held[name].flows, *flows])
