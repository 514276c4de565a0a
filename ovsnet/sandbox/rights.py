"""Giving controller and agents the rights that they have in a cluster, and waiting for these."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import Any

from ovsnet.sandbox.client import Client, Object

_PLURALS = {
    "Namespace": "namespaces",
    "ServiceAccount": "serviceaccounts",
    "Role": "roles",
    "RoleBinding": "rolebindings",
    "ClusterRole": "clusterroles",
    "ClusterRoleBinding": "clusterrolebindings",
}
_ORDER = tuple(_PLURALS)
_REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
_PERIOD = 0.05
_SECONDS = 30.0


class NoRightsError(Exception):
    """The rights that were given are not in effect."""


async def create(client: Client, objects: Iterable[Object]) -> None:
    """Create those of these objects that give rights, and wait until the API server goes by them.

    Raises:
        ApiError: the API server refused something.
        NoRightsError: after half a minute it still did not go by them.
    """
    known = [each for each in objects if each["kind"] in _PLURALS]
    for each in sorted(known, key=lambda one: _ORDER.index(one["kind"])):
        await client.create(_collection(each), each)
    for review in _reviews(known):
        try:
            async with asyncio.timeout(_SECONDS):
                while not await _allowed(client, review):
                    await asyncio.sleep(_PERIOD)
        except TimeoutError:
            raise NoRightsError(f"this is not allowed: {review}") from None


async def _allowed(client: Client, review: Object) -> bool:
    return bool((await client.create(_REVIEWS, {"spec": review}))["status"]["allowed"])


def _collection(obj: Object) -> str:
    """The path under which objects like this one are created."""
    base = "/api/v1" if obj["apiVersion"] == "v1" else f"/apis/{obj['apiVersion']}"
    namespace = obj["metadata"].get("namespace")
    place = f"/namespaces/{namespace}" if namespace else ""
    return f"{base}{place}/{_PLURALS[obj['kind']]}"


def _reviews(objects: Iterable[Object]) -> Iterator[Object]:
    """For every binding to a service account, something that it allows, as a review asks for it."""
    found = list(objects)
    rules = {(each["kind"], _place(each)): each["rules"] for each in found if "rules" in each}
    for binding in found:
        for subject in binding.get("subjects", ()):
            where = binding["metadata"].get("namespace", "")
            kind, name = binding["roleRef"]["kind"], binding["roleRef"]["name"]
            for rule in rules.get((kind, (where if kind == "Role" else "", name)), ())[:1]:
                yield {
                    "user": f"system:serviceaccount:{subject['namespace']}:{subject['name']}",
                    "resourceAttributes": _attributes(rule, where),
                }


def _place(obj: Object) -> tuple[str, str]:
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def _attributes(rule: Object, namespace: str) -> dict[str, Any]:
    names = rule.get("resourceNames", ("",))
    return {
        "namespace": namespace,
        "verb": rule["verbs"][0],
        "group": rule["apiGroups"][0],
        "resource": rule["resources"][0],
        "name": names[0],
    }
