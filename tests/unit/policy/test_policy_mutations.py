"""The compiler with one rule broken on purpose: the comparisons with the evaluator and with the
final state must notice every one of these breaks. A suite that cannot fail proves nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from policy_carriage import Carriage
from policy_scenes import deliverable, every_traffic, world
from policy_strategies import clusters
from test_policy_flows import disagreement
from test_policy_orders import (
    test_any_order_of_events_ends_in_the_flows_of_the_final_state as orders_agree,
)

from ovsnet.controller import views
from ovsnet.controller.policy import grants, isolation, portnames, selection, standing, standings
from ovsnet.flows import node, policy
from ovsnet.model import Direction, Operator

Break = Callable[[pytest.MonkeyPatch], None]


def replaced(module: Any, name: str, broken: Callable[..., Any]) -> Break:
    """A break that puts `broken(real)` in the place of a function."""

    def apply(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(module, name, broken(getattr(module, name)))

    return apply


def without(module: Any, name: str, direction: Direction | None = None) -> Break:
    """A break that makes no flows, in one direction or in both."""

    def broken(real: Callable[..., Any]) -> Callable[..., Any]:
        def none(first: Any, *rest: Any) -> Any:
            if direction is None or first is direction or first == policy.WAYS[direction]:
                return iter(())
            return real(first, *rest)

        return none

    return replaced(module, name, broken)


def requirement(operator: Operator, always: bool) -> Break:
    """A break that takes an operator to hold always, or never."""
    return replaced(
        selection,
        "_fulfils",
        lambda real: lambda r, labels: always if r.operator is operator else real(r, labels),
    )


def field(index: int, value: Any) -> Break:
    """A break of one part of a grant."""

    def broken(real: Callable[..., Any]) -> Callable[..., Any]:
        def change(policy_: Any, direction: Any, rule: Any) -> Any:
            for grant in real(policy_, direction, rule):
                names = ("anyone", "groups", "networks", "ports")
                if isinstance(grant, grants.Grant):
                    yield msgspec.structs.replace(grant, **{names[index]: value})
                else:
                    yield grant

        return change

    return replaced(grants, "_granted", broken)


def one_port_more(real: Callable[..., Any]) -> Callable[..., Any]:
    return lambda first, last: real(first, min(last + 1, 65535))


def wrong_field(way: policy.Way) -> policy.Way:
    return msgspec.structs.replace(way, subject=way.peer, peer=way.subject)


def crossed(patch: pytest.MonkeyPatch) -> None:
    ways = {d: wrong_field(w) for d, w in policy.WAYS.items()}
    for module in (policy, standing):
        patch.setattr(module, "WAYS", ways)


FLOW_BREAKS = {
    ("nobody is isolated for ingress", "deny ingress"): without(
        isolation, "isolated", Direction.INGRESS
    ),
    ("nobody is isolated for egress", "deny egress"): without(
        isolation, "isolated", Direction.EGRESS
    ),
    ("the own node is no exception", "deny both, one pod"): replaced(
        node, "own_node", lambda _: lambda _: iter(())
    ),
    ("ranges have one port more", "a range"): replaced(policy, "masked_ports", one_port_more),
    ("rules have no ports", "a port"): without(standing, "ports"),
    ("ports are any", "a port"): field(3, None),
    ("peers are any", "a namespace"): field(0, True),
    ("peers by selector are forgotten", "egress to pods"): field(1, ()),
    ("peers by block are forgotten", "a block"): field(2, ()),
    ("exceptions are forgotten", "exceptions"): replaced(
        grants, "_without", lambda _: lambda block: [block.cidr]
    ),
    ("subject and peer are crossed", "peer and port"): crossed,
    ("In holds always", "In"): requirement(Operator.IN, True),
    ("NotIn never holds", "NotIn"): requirement(Operator.NOT_IN, False),
    ("NotIn holds always", "NotIn"): requirement(Operator.NOT_IN, True),
    ("Exists holds always", "Exists"): requirement(Operator.EXISTS, True),
    ("DoesNotExist holds always", "DoesNotExist"): requirement(Operator.DOES_NOT_EXIST, True),
    ("port names mean nothing", "a name, ingress"): replaced(
        grants.PortName, "number", lambda _: lambda self, member: None
    ),
    ("port names do not look at the protocol", "a name of a protocol"): replaced(
        grants.PortName,
        "number",
        lambda _: (
            lambda self, member: next((p.port for p in member.ports if p.name == self.name), None)
        ),
    ),
    ("a peer without namespaceSelector is of any namespace", "pods of the own namespace"): replaced(
        grants,
        "_groups",
        lambda real: (
            lambda policy_, peer: (
                g if g.namespaces is not None else msgspec.structs.replace(g, namespace="")
                for g in real(policy_, peer)
            )
        ),
    ),
    ("namespace labels are not looked at", "pods of a namespace"): replaced(
        grants,
        "_groups",
        lambda real: (
            lambda policy_, peer: (
                msgspec.structs.replace(g, namespaces=None) for g in real(policy_, peer)
            )
        ),
    ),
    ("one address of a pod is forgotten", "deny ingress"): replaced(
        views,
        "Member",
        lambda real: lambda ref, labels, addresses, *rest: real(ref, labels, addresses[:1], *rest),
    ),
}


def forgetful(name: str) -> Break:
    """A break that passes over a change of a standing grant."""
    return replaced(standing.StandingGrant, name, lambda _: lambda self, *_: None)


def keeps_isolation(real: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, group, direction, ref: None


def hears_once(real: Callable[..., Any]) -> Callable[..., Any]:
    """A namespace's labels are those that it had first."""

    def heard(self: Any, name: str, labels: Any) -> None:
        if name not in self._namespaces:
            real(self, name, labels)

    return heard


def counts_once(real: Callable[..., Any]) -> Callable[..., Any]:
    """A pod's ports are those that it had first."""
    return lambda self, before, now: real(self, before, now) if before is None else None


ORDER_BREAKS = {
    "peers that go are kept": forgetful("peer_goes"),
    "subjects that go are kept": forgetful("subject_goes"),
    "grants that end are kept": replaced(
        standings.Standings, "_end", lambda _: lambda self, standing: None
    ),
    "isolation is kept": replaced(isolation.Isolation, "end", keeps_isolation),
    "namespaces are heard of once": replaced(selection.Selection, "set_namespace", hears_once),
    "port numbers are counted once": replaced(portnames.PortNames, "count", counts_once),
}

RANDOMS = st.randoms(use_true_random=False)
_quickly = settings(
    max_examples=600,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize(
    ("scene", "break_it"),
    [(scene, break_it) for (_, scene), break_it in FLOW_BREAKS.items()],
    ids=[name for name, _ in FLOW_BREAKS],
)
def test_a_broken_compiler_disagrees_with_the_evaluator(
    scene: str, break_it: Break, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_it(monkeypatch)
    carriage = Carriage.of(world(scene))
    tried = (t for t in every_traffic(carriage.world) if deliverable(carriage, t))
    assert any(disagreement(carriage, traffic) for traffic in tried)


@pytest.mark.parametrize("break_it", ORDER_BREAKS.values(), ids=ORDER_BREAKS.keys())
def test_a_broken_engine_ends_in_another_state(
    break_it: Break, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_it(monkeypatch)
    test = _quickly(given(clusters(), clusters(), RANDOMS)(orders_agree.hypothesis.inner_test))
    with pytest.raises((AssertionError, LookupError)):  # a failed check, or a ledger that objects
        test()
