"""Server-side apply: who owns which field, and what happens when two want the same.

What is simplified against a real server (which it otherwise follows; see "Server-Side Apply" in
the Kubernetes documentation):

- Ownership is recorded from the first apply on. Before that an object has no managedFields; the
  first apply gives what is there to the manager `before-first-apply`, as real servers once did.
- An object that `kubectl apply` made on the client's side changes over to server-side apply
  without a conflict, for the fields in its last-applied annotation.
- Managers keep one entry for each operation and subresource; entries are never compacted, and
  that of an applier stays even when nothing in it is left.
- There is one version of each kind, so managed fields are never converted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ovsnet.sandbox.apiserver import schema
from ovsnet.sandbox.apiserver.fieldsets import (
    FieldSet,
    Path,
    decode_set,
    describe,
    encode_set,
    leaves,
    merge_applied,
    remove_paths,
    values_of,
)
from ovsnet.sandbox.apiserver.kinds import Kind, Object
from ovsnet.sandbox.apiserver.status import ApiError, Cause

BEFORE_FIRST_APPLY = "before-first-apply"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
APPLY = "Apply"
UPDATE = "Update"

_UNOWNED = frozenset(
    {
        ("f:apiVersion",),
        ("f:kind",),
        *(
            ("f:metadata", f"f:{name}")
            for name in (
                "name",
                "namespace",
                "uid",
                "resourceVersion",
                "generation",
                "creationTimestamp",
                "deletionTimestamp",
                "deletionGracePeriodSeconds",
                "selfLink",
                "managedFields",
                "generateName",
            )
        ),
    }
)


@dataclass(frozen=True)
class Owner:
    """Who owns fields, and by which operation."""

    manager: str
    operation: str
    subresource: str = ""


@dataclass
class ManagedFields:
    """The fields of an object by owner; `metadata.managedFields` in a form to reckon with."""

    api_version: str
    owners: dict[Owner, FieldSet] = field(default_factory=dict)
    times: dict[Owner, str] = field(default_factory=dict)

    @classmethod
    def read(cls, obj: Object) -> ManagedFields:
        """What an object's metadata says. Raises ApiError (400) for entries that make no sense."""
        result = cls(obj.get("apiVersion", ""))
        for entry in obj.get("metadata", {}).get("managedFields", ()):
            owner = Owner(
                entry.get("manager", ""), entry.get("operation", ""), entry.get("subresource", "")
            )
            result.owners[owner] = decode_set(entry.get("fieldsV1", {}))
            result.times[owner] = entry.get("time", "")
        return result

    def write_to(self, obj: Object) -> None:
        """Put the entries into an object's metadata."""
        entries = []
        for owner, owned in sorted(
            self.owners.items(), key=lambda o: (o[0].operation, self.times[o[0]], o[0].manager)
        ):
            # An applier's entry stays when it owns nothing: it marks the object as tracked.
            if not owned and owner.operation != APPLY:
                continue
            entry: Object = {
                "manager": owner.manager,
                "operation": owner.operation,
                "apiVersion": self.api_version,
                "time": self.times[owner],
                "fieldsType": "FieldsV1",
                "fieldsV1": encode_set(owned),
            }
            if owner.subresource:
                entry["subresource"] = owner.subresource
            entries.append(entry)
        if entries:
            obj["metadata"]["managedFields"] = entries
        else:
            obj["metadata"].pop("managedFields", None)

    def give(self, owner: Owner, fields: FieldSet, now: str) -> None:
        """Add fields to an owner's; the time changes only if that makes a difference."""
        before = self.owners.get(owner, frozenset())
        if not fields <= before:
            self.owners[owner] = before | fields
            self.times[owner] = now

    def take(self, fields: FieldSet, keep: Owner | None = None) -> None:
        """Take fields from every owner but one."""
        for owner, owned in self.owners.items():
            if owner != keep:
                self.owners[owner] = owned - fields


def track(kind: Kind, old: Object, new: Object, owner: Owner, now: str) -> None:
    """Account for an ordinary write in the managed fields of the new object, in place.

    Fields that changed are the writer's now; fields that went are nobody's. An object that was
    never applied is not tracked.
    """
    metadata = new["metadata"]
    entries = metadata.pop("managedFields", None)
    if not old.get("metadata", {}).get("managedFields") or entries == []:
        return
    managed = ManagedFields.read(old)
    type_ = schema.of_kind(kind)
    before, after = values_of(old, type_, _UNOWNED), values_of(new, type_, _UNOWNED)
    gone = frozenset(before.keys() - after.keys())
    changed = frozenset(path for path in after if path not in before or before[path] != after[path])
    managed.take(gone)
    managed.take(changed, keep=owner)
    managed.give(owner, changed, now)
    managed.write_to(new)


@dataclass(frozen=True)
class Applied:
    """What an apply makes of an object."""

    obj: Object
    fields: ManagedFields


def apply_configuration(
    kind: Kind, live: Object | None, config: Object, manager: str, *, force: bool, now: str
) -> Applied:
    """Merge an applied configuration into an object, or into nothing.

    Raises ApiError: 409 with a cause for every field that another manager has with another value,
    unless `force` takes them over.
    """
    type_ = schema.of_kind(kind)
    wanted = frozenset(leaves(config, type_, _UNOWNED))
    owner = Owner(manager, APPLY)
    if live is None:
        managed = ManagedFields(kind.api_version)
        base: Object = {}
    else:
        managed = _known_owners(kind, live, now)
        base = live
    merged = merge_applied(base, config, type_)
    values = values_of(merged, type_, _UNOWNED)
    present = values_of(base, type_, _UNOWNED)
    differing = frozenset(p for p in wanted if p in present and present[p] != values.get(p))
    conflicts = {
        other: owned & differing
        for other, owned in managed.owners.items()
        if other != owner and owned & differing
    }
    if live is not None and manager == "kubectl":
        conflicts = _without_last_applied(live, type_, conflicts)
    if conflicts and not force:
        raise _conflict_error(kind, conflicts, managed)
    managed.take(differing, keep=owner)
    previous = managed.owners.get(owner, frozenset())
    others = frozenset[Path]().union(*(f for o, f in managed.owners.items() if o != owner))
    merged = remove_paths(merged, previous - wanted - others, wanted | others, type_)
    if wanted != previous or owner not in managed.owners:
        managed.owners[owner] = wanted
        managed.times[owner] = now
    return Applied(merged, managed)


def _known_owners(kind: Kind, live: Object, now: str) -> ManagedFields:
    managed = ManagedFields.read(live)
    managed.api_version = kind.api_version
    if not managed.owners:
        everything = frozenset(leaves(live, schema.of_kind(kind), _UNOWNED))
        managed.give(Owner(BEFORE_FIRST_APPLY, UPDATE), everything, now)
    return managed


def _without_last_applied(
    live: Object, type_: schema.Schema, conflicts: Mapping[Owner, FieldSet]
) -> dict[Owner, FieldSet]:
    """Conflicts less those with the configuration that the same kubectl once applied itself."""
    text = live["metadata"].get("annotations", {}).get(LAST_APPLIED)
    if text is None:
        return dict(conflicts)
    annotation: Path = ("f:metadata", "f:annotations", f"f:{LAST_APPLIED}")
    try:
        own = frozenset(leaves(msgspec.json.decode(text), type_, _UNOWNED)) | {annotation}
    except msgspec.DecodeError:
        return dict(conflicts)
    rest = {owner: fields - own for owner, fields in conflicts.items()}
    return {owner: fields for owner, fields in rest.items() if fields}


def _conflict_error(
    kind: Kind, conflicts: Mapping[Owner, FieldSet], managed: ManagedFields
) -> ApiError:
    causes = list(_conflict_causes(kind, conflicts))
    noun = "conflict" if len(causes) == 1 else "conflicts"
    lines: list[str] = []
    for owner, fields in conflicts.items():
        where = f' with subresource "{owner.subresource}"' if owner.subresource else ""
        lines.append(
            f'conflicts with "{owner.manager}"{where} using {managed.api_version}:'
            if len(causes) > 1
            else f'conflict with "{owner.manager}"{where} using {managed.api_version}:'
        )
        listed = [describe(path) for path in sorted(fields)]
        lines = (
            [*lines, *(f"- {text}" for text in listed)]
            if len(causes) > 1
            else [f"{lines[0]} {listed[0]}"]
        )
    separator = "\n" if len(causes) > 1 else " "
    message = f"Apply failed with {len(causes)} {noun}:{separator}" + "\n".join(lines)
    return ApiError(409, "Conflict", message, causes=causes)


def _conflict_causes(kind: Kind, conflicts: Mapping[Owner, FieldSet]) -> Iterator[Cause]:
    for owner, fields in conflicts.items():
        for path in sorted(fields):
            message = f'conflict with "{owner.manager}" using {kind.api_version}'
            yield Cause("FieldManagerConflict", message, describe(path))


def check_applied(config: Any) -> None:
    """Refuse a configuration that carries managedFields. Raises ApiError (400)."""
    if isinstance(config, dict) and config.get("metadata", {}).get("managedFields"):
        raise ApiError(400, "BadRequest", "metadata.managedFields must be nil")
