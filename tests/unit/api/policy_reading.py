"""NetworkPolicies as the decoder reads them, from what tests say of them."""

from __future__ import annotations

import json

from policy_objects import port, rule

from ovsnet.api import NETWORK_POLICY
from ovsnet.api.decode import read_page
from ovsnet.model import Direction

META = {"namespace": "shop", "name": "p", "uid": "u-1", "resourceVersion": "7"}
BOTH = frozenset(Direction)
INGRESS = frozenset({Direction.INGRESS})
EGRESS = frozenset({Direction.EGRESS})
NOTHING = rule([], [])


def read(spec, **metadata):
    """What is read of a policy with this `spec`."""
    return read_bytes(json.dumps(spec).encode(), **metadata)


def read_bytes(spec, **metadata):
    """What is read of a policy whose `spec` is this JSON."""
    head = json.dumps(META | metadata).encode()
    thing = b'{"metadata": %b, "spec": %b}' % (head, spec)
    page = b'{"metadata": {"resourceVersion": "9"}, "items": [%b]}' % thing
    (found,) = read_page(NETWORK_POLICY, page).objects
    return found


def value(spec):
    """The policy with this `spec`, which is there whatever it says."""
    found = read(spec)
    assert found.problems == ()
    assert (found.value.namespace, found.value.name, found.value.uid) == ("shop", "p", "u-1")
    return found.value


def clean(spec):
    """The policy with this `spec`, in which there is nothing wrong."""
    found = value(spec)
    assert found.faults == ()
    return found


def peers(*given):
    """What is read of an ingress rule's peers, and the faults' fields behind `from`."""
    found = value({"ingress": [{"from": list(given), "ports": [{"port": 80}]}]})
    (only,) = found.ingress
    assert only.ports == (port(80),)
    return only.peers, [fault.field for fault in found.faults]


def ports(*given):
    """What is read of an egress rule's ports, and the faults."""
    found = value({"egress": [{"ports": list(given)}]})
    (only,) = found.egress
    assert only.peers is None
    return only.ports, [(fault.field, fault.reason) for fault in found.faults]
