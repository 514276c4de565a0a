"""What a controller wants done, as values. `runner` does it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from ovsnet.sandbox.apiserver.kinds import POD, Kind, Object
from ovsnet.sandbox.apiserver.store import Key
from ovsnet.sandbox.workloads.objects import Pod


@dataclass(frozen=True)
class Create:
    """Create an object."""

    kind: Kind
    namespace: str
    obj: Object


@dataclass(frozen=True)
class Delete:
    """Delete an object, if it still is the one with this uid."""

    kind: Kind
    key: Key
    uid: str
    grace: int | None = None
    """Seconds; None for the object's own."""
    propagation: str = "Background"


@dataclass(frozen=True)
class Patch:
    """Change an object by a merge patch (RFC 7396)."""

    kind: Kind
    key: Key
    patch: Object
    subresource: str = ""


@dataclass(frozen=True)
class Bind:
    """Give a pod to a node."""

    key: Key
    node: str


@dataclass(frozen=True)
class Record:
    """Note an Event about an object."""

    kind: Kind
    key: Key
    uid: str
    reason: str
    message: str
    type: str = "Normal"
    component: str = "ovsnet-sandbox"


Action = Create | Delete | Patch | Bind | Record

_LETTERS = "bcdfghjklmnpqrstvwxz2456789"


def template_hash(template: Any) -> str:
    """A name for a pod template: the same for the same content, ten letters that spell nothing."""
    text = json.dumps(template, sort_keys=True, separators=(",", ":"))
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    letters = []
    for _ in range(10):
        number, rest = divmod(number, len(_LETTERS))
        letters.append(_LETTERS[rest])
    return "".join(letters)


def owner_reference(kind: Kind, owner: Object) -> Object:
    """A reference that makes `owner` the controller of what carries it."""
    return {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def pod_from_template(
    kind: Kind, owner: Object, labels: Object | None = None, name: str = ""
) -> Object:
    """A pod of a workload: its template, owned, with further labels, named or to be named."""
    template = owner["spec"]["template"]
    metadata = dict(template.get("metadata", {}))
    metadata["labels"] = metadata.get("labels", {}) | (labels or {})
    metadata["ownerReferences"] = [owner_reference(kind, owner)]
    if name:
        metadata["name"] = name
    else:
        metadata["generateName"] = f"{owner['metadata']['name']}-"
    return {"metadata": metadata, "spec": dict(template["spec"])}


def create_pod(owner: Object, pod: Object) -> Create:
    """Create a pod in its owner's namespace."""
    return Create(POD, owner["metadata"]["namespace"], pod)


def delete_pod(pod: Pod) -> Delete:
    """Delete a pod, and no later one of its name."""
    return Delete(POD, (pod.metadata.namespace, pod.metadata.name), pod.metadata.uid)


def status_patch(kind: Kind, obj: Object, status: Object) -> list[Patch]:
    """What brings an object's status to these values; nothing if it has them."""
    present = obj.get("status", {})
    if all(present.get(name) == value for name, value in status.items()):
        return []
    metadata = obj["metadata"]
    key = (metadata.get("namespace", ""), metadata["name"])
    return [Patch(kind, key, {"status": status}, "status")]


def set_condition(conditions: list[Object], condition: Object, now: str) -> list[Object]:
    """Conditions with one set; its transition time changes only with its status."""
    old = next((c for c in conditions if c["type"] == condition["type"]), None)
    same_status = old is not None and old["status"] == condition["status"]
    transition = old.get("lastTransitionTime", now) if old is not None and same_status else now
    new = condition | {"lastTransitionTime": transition}
    if old is None:
        return [*conditions, new]
    return [new if c is old else c for c in conditions]
