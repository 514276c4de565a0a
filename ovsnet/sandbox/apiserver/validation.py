"""What objects must be to be stored: names, labels, references, and what may not change.

The essentials of the API conventions and of each kind's reference, not all of a real server's
rules: enough that a wrong manifest is refused with a cause that names the field.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ovsnet.sandbox.apiserver import kinds
from ovsnet.sandbox.apiserver.causes import forbidden, required, wrong
from ovsnet.sandbox.apiserver.kinds import Kind, Object
from ovsnet.sandbox.apiserver.selectors import is_qualified_name
from ovsnet.sandbox.apiserver.status import Cause
from ovsnet.sandbox.apiserver.validation_fields import label_problem, labels, subdomain_problem
from ovsnet.sandbox.apiserver.validation_service import service_status, service_update
from ovsnet.sandbox.apiserver.validation_specs import SPEC_RULES

_PATH_NAMES = frozenset(
    {kinds.ROLE, kinds.ROLE_BINDING, kinds.CLUSTER_ROLE, kinds.CLUSTER_ROLE_BINDING}
)


def name_problem(kind: Kind, name: str) -> str:
    """Why a name is no name for this kind; empty if it is one."""
    if kind in _PATH_NAMES:
        bad = name in (".", "..") or "/" in name or "%" in name
        return "may not be '.' or '..' nor contain '/' or '%'" if bad else ""
    if kind is kinds.SERVICE:
        return label_problem(name, "1035")
    if kind is kinds.NAMESPACE:
        return label_problem(name)
    return subdomain_problem(name)


def _owner_causes(owners: list[Object]) -> list[Cause]:
    causes = []
    for index, owner in enumerate(owners):
        field = f"metadata.ownerReferences[{index}]"
        causes += [
            required(f"{field}.{name}")
            for name in ("apiVersion", "kind", "name", "uid")
            if not owner.get(name)
        ]
    if sum(bool(owner.get("controller")) for owner in owners) > 1:
        causes.append(
            wrong("metadata.ownerReferences", "", "only one reference can have controller true")
        )
    return causes


def _metadata_causes(kind: Kind, metadata: Object) -> list[Cause]:
    name = metadata.get("name", "")
    if not name:
        return [required("metadata.name", "name or generateName is required")]
    problem = name_problem(kind, name)
    causes = [wrong("metadata.name", name, problem)] if problem else []
    causes += labels("metadata.labels", metadata.get("labels", {}))
    causes += [
        wrong("metadata.annotations", key, "is no qualified name")
        for key in metadata.get("annotations", {})
        if not is_qualified_name(key.lower())
    ]
    causes += [
        wrong("metadata.finalizers", finalizer, "is no qualified name")
        for finalizer in metadata.get("finalizers", ())
        if not is_qualified_name(finalizer)
    ]
    return causes + _owner_causes(metadata.get("ownerReferences", []))


def validate(kind: Kind, obj: Object) -> list[Cause]:
    """What is wrong with an object by itself; empty if nothing is."""
    causes = _metadata_causes(kind, obj["metadata"])
    rule = SPEC_RULES.get(kind)
    return causes + (rule(obj) if rule is not None else [])


def _unchanged(*paths: str) -> Callable[[Object, Object], list[Cause]]:
    def check(new: Object, old: Object) -> list[Cause]:
        causes = []
        for path in paths:
            values: list[Any] = []
            for obj in (new, old):
                value: Any = obj
                for part in path.split("."):
                    value = value.get(part) if isinstance(value, dict) else None
                values.append(value)
            if values[0] != values[1]:
                causes.append(wrong(path, values[0], "field is immutable"))
        return causes

    return check


_POD_MAY_CHANGE = ("activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds")


def _pod_update(new: Object, old: Object) -> list[Cause]:
    def fixed(pod: Object) -> Object:
        spec = {k: v for k, v in pod["spec"].items() if k not in _POD_MAY_CHANGE}
        for name in ("containers", "initContainers"):
            if name in spec:
                spec[name] = [{**c, "image": ""} for c in spec[name]]
        if not old["spec"].get("nodeName"):
            spec.pop("nodeName", None)
        return spec

    if fixed(new) == fixed(old):
        return []
    message = (
        "pod updates may not change fields other than `spec.containers[*].image`,"
        "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only "
        "additions to existing tolerations),`spec.terminationGracePeriodSeconds`"
    )
    return [forbidden("spec", message)]


_SET_MAY_CHANGE = (
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
)


def _stateful_set_update(new: Object, old: Object) -> list[Cause]:
    def fixed(obj: Object) -> Object:
        return {k: v for k, v in obj["spec"].items() if k not in _SET_MAY_CHANGE}

    if fixed(new) == fixed(old):
        return []
    named = ", ".join(f"'{name}'" for name in _SET_MAY_CHANGE[:-1])
    message = (
        f"updates to statefulset spec for fields other than {named} and "
        f"'{_SET_MAY_CHANGE[-1]}' are forbidden"
    )
    return [forbidden("spec", message)]


def _node_update(new: Object, old: Object) -> list[Cause]:
    before = old.get("spec", {}).get("podCIDRs")
    after = new.get("spec", {}).get("podCIDRs")
    if before and before != after:
        return [forbidden("spec.podCIDRs", 'node updates may not change podCIDR except from ""')]
    return []


def _immutable_data(new: Object, old: Object) -> list[Cause]:
    if not old.get("immutable"):
        return []
    return [
        forbidden(field, "field is immutable when `immutable` is set")
        for field in ("data", "binaryData", "immutable")
        if new.get(field) != old.get(field)
    ]


_UPDATE_RULES: Mapping[Kind, Callable[[Object, Object], list[Cause]]] = {
    kinds.POD: _pod_update,
    kinds.DEPLOYMENT: _unchanged("spec.selector"),
    kinds.REPLICA_SET: _unchanged("spec.selector"),
    kinds.DAEMON_SET: _unchanged("spec.selector"),
    kinds.STATEFUL_SET: _stateful_set_update,
    kinds.JOB: _unchanged("spec.selector", "spec.template", "spec.completionMode"),
    kinds.NODE: _node_update,
    kinds.CONFIG_MAP: _immutable_data,
    kinds.SECRET: _immutable_data,
    kinds.ENDPOINT_SLICE: _unchanged("addressType"),
    kinds.SERVICE: service_update,
    kinds.ROLE_BINDING: _unchanged("roleRef"),
    kinds.CLUSTER_ROLE_BINDING: _unchanged("roleRef"),
    kinds.PRIORITY_CLASS: _unchanged("value"),
}


def validate_update(kind: Kind, new: Object, old: Object) -> list[Cause]:
    """What is wrong with a change of an object, both states being valid; empty if nothing is."""
    rule = _UPDATE_RULES.get(kind)
    return rule(new, old) if rule is not None else []


def validate_status(kind: Kind, obj: Object) -> list[Cause]:
    """What is wrong with an object's status; empty if nothing is."""
    return list(service_status(obj)) if kind is kinds.SERVICE else []
