"""NetworkPolicies as the API has them, from the model's values: the way back of `ovsnet.api`."""

from msgspec import structs

from ovsnet.model import (
    Direction,
    NetworkPolicy,
    PolicyPeer,
    PolicyPort,
    PolicyRule,
    Selector,
)

_PEERS = {Direction.INGRESS: "from", Direction.EGRESS: "to"}


def wire_policy(policy: NetworkPolicy, **metadata: object) -> dict[str, object]:
    """The object that the API server has of a policy without faults.

    What is none, not any, cannot be said in the API: a void list of peers or ports is not for it.
    """
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "namespace": policy.namespace,
            "name": policy.name,
            "uid": policy.uid,
            **metadata,
        },
        "spec": wire_spec(policy),
    }


def wire_spec(policy: NetworkPolicy) -> dict[str, object]:
    """The `spec` of a policy."""
    spec: dict[str, object] = {
        "podSelector": wire_selector(policy.pods),
        "policyTypes": sorted(policy.directions, reverse=True),
    }
    for direction in Direction:
        rules = policy.rules(direction)
        if rules:
            spec[direction.lower()] = [_rule(rule, direction) for rule in rules]
    return spec


def _rule(rule: PolicyRule, direction: Direction) -> dict[str, object]:
    found: dict[str, object] = {}
    if rule.peers is not None:
        found[_PEERS[direction]] = [_peer(peer) for peer in rule.peers]
    if rule.ports is not None:
        found["ports"] = [_port(port) for port in rule.ports]
    return found


def _peer(peer: PolicyPeer) -> dict[str, object]:
    found: dict[str, object] = {}
    if peer.pods is not None:
        found["podSelector"] = wire_selector(peer.pods)
    if peer.namespaces is not None:
        found["namespaceSelector"] = wire_selector(peer.namespaces)
    if peer.ip_block is not None:
        found["ipBlock"] = {"cidr": str(peer.ip_block.cidr)}
        if peer.ip_block.exceptions:
            found["ipBlock"]["except"] = [str(cidr) for cidr in peer.ip_block.exceptions]
    return found


def _port(port: PolicyPort) -> dict[str, object]:
    found: dict[str, object] = {"protocol": str(port.protocol)}
    if port.port is not None:
        found["port"] = port.port
    if port.end is not None:
        found["endPort"] = port.end
    return found


def wire_selector(selector: Selector) -> dict[str, object]:
    """A LabelSelector."""
    found: dict[str, object] = {}
    if selector.labels:
        found["matchLabels"] = dict(selector.labels)
    if selector.expressions:
        found["matchExpressions"] = [
            {"key": key, "operator": str(operator), **({"values": list(values)} if values else {})}
            for key, operator, values in map(structs.astuple, selector.expressions)
        ]
    return found
