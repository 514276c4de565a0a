"""What this server has, in the forms that clients discover it by. Pure functions of the table."""

from __future__ import annotations

from collections.abc import Iterator

from ovsnet.sandbox.apiserver.kinds import KINDS, POD, Kind, Object

VERSION: Object = {
    "major": "1",
    "minor": "34",
    "gitVersion": "v1.34.4+ovsnet-sandbox",
    "gitCommit": "",
    "gitTreeState": "",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "",
    "compiler": "",
    "platform": "linux/amd64",
}
"""The answer to /version: the Kubernetes API that this server follows, and that it is none."""

VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
_PART_VERBS = ("get", "patch", "update")

REVIEWS: tuple[tuple[str, str, str, str], ...] = (
    ("authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview"),
    ("authorization.k8s.io", "v1", "selfsubjectrulesreviews", "SelfSubjectRulesReview"),
    ("authentication.k8s.io", "v1", "selfsubjectreviews", "SelfSubjectReview"),
    ("authentication.k8s.io", "v1", "tokenreviews", "TokenReview"),
)
"""Group, version, plural and kind of what is answered and never stored."""

_FOREIGN_PARTS: dict[str, tuple[str, str, str]] = {
    "Scale": ("autoscaling", "v1", "Scale"),
    "Eviction": ("policy", "v1", "Eviction"),
    "Binding": ("", "v1", "Binding"),
    "TokenRequest": ("authentication.k8s.io", "v1", "TokenRequest"),
}


def _parts(kind: Kind) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """A kind's subresources: name, kind, verbs."""
    if kind.has_status:
        yield "status", kind.kind, _PART_VERBS
    if kind.scales:
        yield "scale", "Scale", _PART_VERBS
    for name, part_kind in kind.subresources:
        verbs = ("update",) if name == "finalize" else ("create",)
        yield name, part_kind, verbs


def group_versions() -> dict[str, list[str]]:
    """The versions of every named group, in the order of the table."""
    found: dict[str, list[str]] = {}
    pairs = [(k.group, k.version) for k in KINDS] + [(r[0], r[1]) for r in REVIEWS]
    for group, version in pairs:
        if group and version not in found.setdefault(group, []):
            found[group].append(version)
    return found


def api_versions() -> Object:
    """The answer to /api."""
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}


def _group(name: str, versions: list[str]) -> Object:
    listed = [{"groupVersion": f"{name}/{v}", "version": v} for v in versions]
    return {"name": name, "versions": listed, "preferredVersion": listed[0]}


def api_groups() -> Object:
    """The answer to /apis."""
    groups = [_group(name, versions) for name, versions in group_versions().items()]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def api_group(name: str) -> Object | None:
    """The answer to /apis/GROUP, or None if there is no such group."""
    versions = group_versions().get(name)
    if versions is None:
        return None
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(name, versions)}


def _resource(kind: Kind) -> Object:
    entry: Object = {
        "name": kind.plural,
        "singularName": kind.singular,
        "namespaced": kind.namespaced,
        "kind": kind.kind,
        "verbs": list(VERBS),
    }
    if kind.short_names:
        entry["shortNames"] = list(kind.short_names)
    if kind.categories:
        entry["categories"] = list(kind.categories)
    return entry


def _part_resource(kind: Kind, name: str, part_kind: str, verbs: tuple[str, ...]) -> Object:
    entry: Object = {
        "name": f"{kind.plural}/{name}",
        "singularName": "",
        "namespaced": kind.namespaced,
        "kind": part_kind,
        "verbs": list(verbs),
    }
    if part_kind in _FOREIGN_PARTS:
        entry["group"], entry["version"], _ = _FOREIGN_PARTS[part_kind]
    return entry


def api_resources(group: str, version: str) -> Object | None:
    """The answer to /api/v1 and /apis/GROUP/VERSION, or None if there is no such version."""
    resources: list[Object] = []
    for kind in KINDS:
        if (kind.group, kind.version) == (group, version):
            resources.append(_resource(kind))
            resources += [_part_resource(kind, *part) for part in _parts(kind)]
    for review_group, review_version, plural, review_kind in REVIEWS:
        if (review_group, review_version) == (group, version):
            resources.append(
                {
                    "name": plural,
                    "singularName": review_kind.lower(),
                    "namespaced": False,
                    "kind": review_kind,
                    "verbs": ["create"],
                }
            )
    if not resources:
        return None
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{group}/{version}" if group else version,
        "resources": resources,
    }


def _aggregated_resource(entry: Object, parts: list[Object], group: str, version: str) -> Object:
    response = {"group": group, "version": version, "kind": entry["kind"]}
    resource: Object = {
        "resource": entry["name"],
        "responseKind": response,
        "scope": "Namespaced" if entry["namespaced"] else "Cluster",
        "singularResource": entry["singularName"],
        "verbs": entry["verbs"],
    }
    for name in ("shortNames", "categories"):
        if name in entry:
            resource[name] = entry[name]
    if parts:
        resource["subresources"] = [
            {
                "subresource": part["name"].partition("/")[2],
                "responseKind": {
                    "group": part.get("group", group),
                    "version": part.get("version", version),
                    "kind": part["kind"],
                },
                "verbs": part["verbs"],
            }
            for part in parts
        ]
    return resource


def _aggregated_version(group: str, version: str) -> Object:
    listed = api_resources(group, version)
    entries: list[Object] = listed["resources"] if listed is not None else []
    resources = [
        _aggregated_resource(
            entry,
            [part for part in entries if part["name"].startswith(entry["name"] + "/")],
            group,
            version,
        )
        for entry in entries
        if "/" not in entry["name"]
    ]
    return {"version": version, "resources": resources, "freshness": "Current"}


def aggregated(core: bool, form: str) -> Object:
    """The answer to /api (`core`) or /apis in aggregated form (`v2` or `v2beta1`)."""
    groups = {"": ["v1"]} if core else group_versions()
    items = []
    for group, versions in groups.items():
        metadata = {"name": group} if group else {}
        listed = [_aggregated_version(group, version) for version in versions]
        items.append({"metadata": metadata, "versions": listed})
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": f"apidiscovery.k8s.io/{form}",
        "metadata": {},
        "items": items,
    }


WITHOUT_RUNTIME: dict[tuple[Kind, str], str] = {
    (POD, part): (
        f"the sandbox's API server has no container runtime, so pods have no {part}; use "
        "`ovsnet sandbox exec NAMESPACE/POD -- COMMAND` instead"
    )
    for part in ("log", "exec", "attach", "portforward", "proxy")
}
"""Subresources that real servers have and this one has not, with what it says instead."""
