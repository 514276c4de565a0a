"""Whether a pod may run on a node: selectors, affinity to nodes, taints (pure predicates)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ovsnet.sandbox.apiserver.kinds import Object
from ovsnet.sandbox.apiserver.selectors import from_label_selector
from ovsnet.sandbox.workloads.objects import Node

UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
NOT_READY = "node.kubernetes.io/not-ready"

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def tolerates(tolerations: Iterable[Object], taint: Object) -> bool:
    """Whether one of the tolerations covers a taint."""
    for toleration in tolerations:
        if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
            continue
        exists = toleration.get("operator", "Equal") == "Exists"
        if exists and not toleration.get("key"):
            return True
        if toleration.get("key") != taint.get("key"):
            continue
        if exists or toleration.get("value", "") == taint.get("value", ""):
            return True
    return False


def _term_matches(term: Object, node: Node) -> bool:
    if not term.get("matchExpressions") and not term.get("matchFields"):
        return False
    labels = from_label_selector({"matchExpressions": term.get("matchExpressions", ())})
    fields = from_label_selector({"matchExpressions": term.get("matchFields", ())})
    return labels.matches(node.metadata.labels) and fields.matches(
        {"metadata.name": node.metadata.name}
    )


def matches_affinity(affinity: Object, node: Node) -> bool:
    """Whether a node fulfils the required node affinity."""
    required = affinity.get("nodeAffinity", {}).get(_REQUIRED)
    if required is None:
        return True
    return any(_term_matches(term, node) for term in required.get("nodeSelectorTerms", ()))


def matches_selector(selector: Mapping[str, str], node: Node) -> bool:
    """Whether a node has all the labels of a nodeSelector."""
    return all(node.metadata.labels.get(key) == value for key, value in selector.items())


def untolerated_taint(tolerations: Sequence[Object], node: Node) -> Object | None:
    """The first taint that keeps a pod off a node, or None."""
    for taint in node.spec.taints:
        if taint.get("effect") in ("NoSchedule", "NoExecute") and not tolerates(tolerations, taint):
            return taint
    return None


def tolerates_condition(tolerations: Sequence[Object], key: str) -> bool:
    """Whether a pod tolerates what a node's condition stands for."""
    return tolerates(tolerations, {"key": key, "effect": "NoSchedule"})


def fits_node(
    selector: Mapping[str, str], affinity: Object, tolerations: Sequence[Object], node: Node
) -> bool:
    """Whether a node is one that a pod may run on at all, whatever its state at present."""
    return (
        matches_selector(selector, node)
        and matches_affinity(affinity, node)
        and untolerated_taint(tolerations, node) is None
    )
