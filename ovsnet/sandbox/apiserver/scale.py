"""The scale subresource (`autoscaling/v1 Scale`) of what has replicas."""

from __future__ import annotations

from ovsnet.sandbox.apiserver import columns
from ovsnet.sandbox.apiserver.kinds import Object
from ovsnet.sandbox.apiserver.status import bad_request

DEFINITION = "io.k8s.api.autoscaling.v1.Scale"


def scale_of(obj: Object) -> Object:
    """An object's scale."""
    metadata = obj["metadata"]
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    status: Object = {"replicas": obj.get("status", {}).get("replicas", 0)}
    selector = columns.selector_text(obj["spec"].get("selector"))
    if selector:
        status["selector"] = selector
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {name: metadata[name] for name in kept if name in metadata},
        "spec": {"replicas": obj["spec"].get("replicas", 0)},
        "status": status,
    }


def with_scale(obj: Object, scale: Object) -> Object:
    """The object with the replicas that a Scale asks for. Raises ApiError (400)."""
    replicas = scale.get("spec", {}).get("replicas", 0)
    if not isinstance(replicas, int) or replicas < 0:
        raise bad_request(f"spec.replicas: expected zero or more, got {replicas!r}")
    obj["spec"]["replicas"] = replicas
    version = scale.get("metadata", {}).get("resourceVersion")
    if version:
        obj["metadata"]["resourceVersion"] = version
    return obj
