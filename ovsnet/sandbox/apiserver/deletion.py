"""What DeleteOptions ask for, and what holds a deletion up."""

from __future__ import annotations

from dataclasses import dataclass

from ovsnet.sandbox.apiserver.kinds import NAMESPACE, POD, Kind, Object
from ovsnet.sandbox.apiserver.status import conflict
from ovsnet.sandbox.apiserver.store import Stored

FOREGROUND = "foregroundDeletion"
"""Finalizer of an object that goes after its dependents (propagationPolicy Foreground)."""

ORPHAN = "orphan"
"""Finalizer of an object whose dependents stay (propagationPolicy Orphan)."""


@dataclass(frozen=True)
class Deletion:
    """DeleteOptions."""

    grace: int | None = None
    """Seconds; None for the object's own."""
    uid: str | None = None
    resource_version: str | None = None
    propagation: str = "Background"


def is_finished(kind: Kind, obj: Object) -> bool:
    """Whether a deletion that waited for finalizers can be completed."""
    metadata = obj["metadata"]
    if kind is NAMESPACE and obj["spec"].get("finalizers"):
        return False
    return (
        "deletionTimestamp" in metadata
        and not metadata.get("finalizers")
        and not metadata.get("deletionGracePeriodSeconds")
    )


def check_preconditions(kind: Kind, stored: Stored, options: Deletion) -> None:
    """Raises ApiError (409) if the object is not the one that is meant."""
    for label, wanted, present in (
        ("UID", options.uid, stored.uid),
        ("ResourceVersion", options.resource_version, str(stored.revision)),
    ):
        if wanted is not None and wanted != present:
            why = (
                f"Precondition failed: {label} in precondition: {wanted}, "
                f"{label} in object meta: {present}"
            )
            raise conflict(kind, stored.key[1], why)


def seconds_to_end(kind: Kind, obj: Object, options: Deletion) -> int:
    """Seconds that a kubelet has to end a pod: none where no kubelet runs it."""
    if kind is not POD or not obj["spec"].get("nodeName"):
        return 0
    if obj.get("status", {}).get("phase") in ("Succeeded", "Failed"):
        return 0
    if options.grace is not None:
        return max(options.grace, 0)
    return int(obj["spec"].get("terminationGracePeriodSeconds", 30))


def set_propagation(metadata: Object, propagation: str) -> None:
    """Have the finalizer that this propagationPolicy stands for, and not the other one."""
    wanted = {"Foreground": FOREGROUND, "Orphan": ORPHAN}.get(propagation)
    present = [f for f in metadata.get("finalizers", ()) if f not in (FOREGROUND, ORPHAN)]
    finalizers = present + ([wanted] if wanted else [])
    if finalizers:
        metadata["finalizers"] = finalizers
    else:
        metadata.pop("finalizers", None)
