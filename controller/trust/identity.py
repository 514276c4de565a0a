"""Which node a service account token speaks for, by what the API server says of it.

The API server is asked with a TokenReview (authentication.k8s.io/v1). A token that it gives to a
pod names the pod and, from Kubernetes 1.32 on, the pod's node; before that the pod is looked up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from ovsnet.api import Review

_NODE: Final = "authentication.kubernetes.io/node-name"
_POD: Final = "authentication.kubernetes.io/pod-name"
_POD_UID: Final = "authentication.kubernetes.io/pod-uid"


class Account(msgspec.Struct, frozen=True):
    """Whose tokens are believed, and for whom they must have been made."""

    user: str
    audience: str


class NamedNode(msgspec.Struct, frozen=True):
    """The token names its node."""

    name: str


class BoundPod(msgspec.Struct, frozen=True):
    """The token is this pod's, in the account's own namespace."""

    name: str
    uid: str


class Disbelieved(msgspec.Struct, frozen=True):
    """The token is nobody's of whom we want to know, for this reason in words."""

    reason: str


def bearer(review: Review, account: Account) -> NamedNode | BoundPod | Disbelieved:
    """Whose token it is."""
    if not review.authenticated:
        return Disbelieved(
            f"the API server does not believe the token: {review.error or 'no reason given'}"
        )
    if account.audience not in review.audiences:
        return Disbelieved(f"the token is not for {account.audience}")
    if review.user != account.user:
        return Disbelieved(f"the token is {review.user}'s: expected {account.user}'s")
    node, pod, uid = (_only(review.extra, field) for field in (_NODE, _POD, _POD_UID))
    if node:
        return NamedNode(node)
    if pod and uid:
        return BoundPod(pod, uid)
    return Disbelieved("the token is bound to no pod: it must come from a projected volume")


def _only(extra: Mapping[str, Sequence[str]], field: str) -> str:
    """The value of a field that has exactly one, else nothing."""
    values = extra.get(field, ())
    return values[0] if len(values) == 1 else ""
