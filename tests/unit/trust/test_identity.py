"""Whose a token is, by what the API server says of it."""

from __future__ import annotations

import pytest

from ovsnet.api import Review
from ovsnet.controller.trust.identity import Account, BoundPod, Disbelieved, NamedNode, bearer

ACCOUNT = Account("system:serviceaccount:ovsnet-system:ovsnet-node", "ovsnet-controller")
_EXTRA = "authentication.kubernetes.io/"


def review(**changes):
    extra = {
        _EXTRA + "node-name": ["node-1"],
        _EXTRA + "node-uid": ["u"],
        _EXTRA + "pod-name": ["ovsnet-node-x"],
        _EXTRA + "pod-uid": ["uid-7"],
    }
    said = {
        "authenticated": True,
        "user": ACCOUNT.user,
        "audiences": ["ovsnet-controller"],
        "extra": {k: v for k, v in (extra | changes.pop("extra", {})).items() if v is not None},
    }
    return Review(**(said | changes))


WITHOUT_NODE = {_EXTRA + "node-name": None, _EXTRA + "node-uid": None}


def test_a_token_names_its_node():
    assert bearer(review(), ACCOUNT) == NamedNode("node-1")


def test_an_older_api_server_names_the_pod_alone():
    assert bearer(review(extra=WITHOUT_NODE), ACCOUNT) == BoundPod("ovsnet-node-x", "uid-7")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"authenticated": False, "error": "it has expired"}, "it has expired"),
        ({"authenticated": False}, "no reason given"),
        ({"audiences": ["kubernetes"]}, "not for ovsnet-controller"),
        ({"audiences": []}, "not for ovsnet-controller"),
        ({"user": "system:serviceaccount:other:ovsnet-node"}, "expected system:serviceaccount:ovs"),
        ({"user": "system:serviceaccount:ovsnet-system:default"}, "default's"),
        ({"user": "system:node:node-1"}, "system:node:node-1's"),
        ({"user": ""}, "expected"),
        ({"extra": WITHOUT_NODE | {_EXTRA + "pod-name": None}}, "bound to no pod"),
        ({"extra": WITHOUT_NODE | {_EXTRA + "pod-uid": None}}, "bound to no pod"),
        ({"extra": WITHOUT_NODE | {_EXTRA + "pod-uid": [""]}}, "bound to no pod"),
        ({"extra": WITHOUT_NODE | {_EXTRA + "pod-name": ["a", "b"]}}, "bound to no pod"),
    ],
)
def test_any_other_token_is_nobodys(changes, words):
    found = bearer(review(**changes), ACCOUNT)
    assert isinstance(found, Disbelieved)
    assert words in found.reason


def test_two_names_of_a_node_are_none():
    found = bearer(review(extra={_EXTRA + "node-name": ["node-1", "node-2"]}), ACCOUNT)
    assert found == BoundPod("ovsnet-node-x", "uid-7")
