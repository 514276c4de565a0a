"""What goes when its owner goes, and namespaces that empty themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ovsnet.sandbox.apiserver.deletion import FOREGROUND, ORPHAN
from ovsnet.sandbox.apiserver.kinds import CONFIG_MAP, NAMESPACE, SERVICE_ACCOUNT, Kind, Object
from ovsnet.sandbox.apiserver.store import Key
from ovsnet.sandbox.workloads.actions import Action, Create, Delete, Patch

Dependent = tuple[Kind, Object]


def _key(obj: Object) -> Key:
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def collect(kind: Kind, obj: Object, exists: Callable[[str], bool]) -> list[Action]:
    """What becomes of an object some of whose owners are gone."""
    metadata = obj["metadata"]
    owners = metadata.get("ownerReferences", [])
    left = [owner for owner in owners if exists(owner["uid"])]
    if not owners or len(left) == len(owners) or "deletionTimestamp" in metadata:
        return []
    if not left:
        return [Delete(kind, _key(obj), metadata["uid"])]
    return [Patch(kind, _key(obj), {"metadata": {"ownerReferences": left}})]


def finish_foreground(kind: Kind, obj: Object, dependents: Iterable[Dependent]) -> list[Action]:
    """What brings an object on that is to go after its dependents."""
    metadata = obj["metadata"]
    if "deletionTimestamp" not in metadata or FOREGROUND not in metadata.get("finalizers", ()):
        return []
    actions: list[Action] = []
    blocked = False
    for dependent_kind, dependent in dependents:
        own = dependent["metadata"]
        blocked |= any(
            owner["uid"] == metadata["uid"] and owner.get("blockOwnerDeletion", False)
            for owner in own.get("ownerReferences", ())
        )
        if "deletionTimestamp" not in own:
            actions.append(
                Delete(dependent_kind, _key(dependent), own["uid"], propagation="Foreground")
            )
    if not blocked:
        actions.append(_without_finalizer(kind, obj, FOREGROUND))
    return actions


def finish_orphan(kind: Kind, obj: Object, dependents: Iterable[Dependent]) -> list[Action]:
    """What brings an object on that is to go without its dependents."""
    metadata = obj["metadata"]
    if "deletionTimestamp" not in metadata or ORPHAN not in metadata.get("finalizers", ()):
        return []
    actions: list[Action] = []
    for dependent_kind, dependent in dependents:
        owners = dependent["metadata"].get("ownerReferences", ())
        left = [owner for owner in owners if owner["uid"] != metadata["uid"]]
        patch = {"metadata": {"ownerReferences": left or None}}
        actions.append(Patch(dependent_kind, _key(dependent), patch))
    return [*actions, _without_finalizer(kind, obj, ORPHAN)]


def _without_finalizer(kind: Kind, obj: Object, finalizer: str) -> Patch:
    left = [f for f in obj["metadata"]["finalizers"] if f != finalizer]
    return Patch(kind, _key(obj), {"metadata": {"finalizers": left or None}})


def empty_namespace(
    namespace: Object, contents: Iterable[tuple[Kind, Key, str, bool]]
) -> list[Action]:
    """What brings a namespace on that is to go: its contents first.

    `contents` are kind, key, uid and whether the object is being deleted already.
    """
    if "deletionTimestamp" not in namespace["metadata"]:
        return []
    listed = list(contents)
    if listed:
        return [Delete(kind, key, uid) for kind, key, uid, deleting in listed if not deleting]
    name = namespace["metadata"]["name"]
    return [Patch(NAMESPACE, ("", name), {"spec": {"finalizers": None}}, "finalize")]


def furnish_namespace(namespace: Object, has: Callable[[Kind, Key], bool]) -> list[Action]:
    """What every namespace has: a default account, and the cluster's certificates (none here)."""
    if "deletionTimestamp" in namespace["metadata"]:
        return []
    name = namespace["metadata"]["name"]
    actions: list[Action] = []
    if not has(SERVICE_ACCOUNT, (name, "default")):
        actions.append(Create(SERVICE_ACCOUNT, name, {"metadata": {"name": "default"}}))
    if not has(CONFIG_MAP, (name, "kube-root-ca.crt")):
        config = {"metadata": {"name": "kube-root-ca.crt"}, "data": {"ca.crt": ""}}
        actions.append(Create(CONFIG_MAP, name, config))
    return actions
