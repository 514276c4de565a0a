"""Host ports: what a pod sends to an address of its node, and the node sends back for another pod.

The node translates the destination (the plugin `portmap`), and only the node can translate the
answers back. So they must not go straight to the pod that called, which knows nothing of the one
that answers. Policies judge both connections, that to the node and that between the pods.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ovsnet.flows.fields import CtState, Field
from ovsnet.flows.flow import Ct, Flow, Goto, Match, SetField, match, term
from ovsnet.flows.priorities import AHEAD
from ovsnet.flows.registers import BY_NODE, NATTED, Natted
from ovsnet.flows.terms import FAMILIES, ct_state, in_port, source
from ovsnet.model import IPNetwork
from ovsnet.names import GATEWAY_OFPORT, POLICY_ZONE, Table

_MARKED = 1 << BY_NODE.offset


def commit_sent_back(ranges: Iterable[IPNetwork]) -> Iterator[Flow]:
    """The first packets of connections that come by the node with the address of one of its own
    pods: their entry remembers that answers go by the node.
    """
    mark = SetField(Field.CT_MARK, _MARKED, _MARKED)
    for network in ranges:
        condition = match(
            in_port(GATEWAY_OFPORT),
            *source(network),
            ct_state(CtState.TRK | CtState.NEW),
            NATTED.has_none_of(sum(Natted)),
        )
        commit = Ct(POLICY_ZONE, commit=True, then=(mark,))
        yield Flow(Table.COMMIT, AHEAD, condition, (commit, Goto(Table.ANSWER)))


def answers_sent_back() -> Iterator[Match]:
    """The conditions for answers in such connections, whosever address they are for."""
    answer = ct_state(CtState.TRK | CtState.RPL, CtState.INV)
    # The mark of a service's connection is by now that of another zone, and means something else.
    unserved = NATTED.has_none_of(sum(Natted))
    for family in FAMILIES:
        yield match(answer, term(Field.CT_MARK, _MARKED, _MARKED), unserved, family)
