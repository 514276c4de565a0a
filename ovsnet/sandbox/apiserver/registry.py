"""The verbs: create, update, patch, delete and what belongs to them, on the store.

Every method either changes the store once or raises ApiError and changes nothing. A request that
changes nothing in the object takes no revision and makes no event, as in a real server.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from ovsnet.sandbox.apiserver import schema
from ovsnet.sandbox.apiserver.admission import Admission
from ovsnet.sandbox.apiserver.apply import UPDATE, ManagedFields, Owner, apply_configuration, track
from ovsnet.sandbox.apiserver.defaults import set_defaults
from ovsnet.sandbox.apiserver.deletion import (
    Deletion,
    check_preconditions,
    is_finished,
    seconds_to_end,
    set_propagation,
)
from ovsnet.sandbox.apiserver.kinds import KINDS, LEASE, NAMESPACE, POD, Kind, Object
from ovsnet.sandbox.apiserver.status import (
    MODIFIED,
    ApiError,
    Cause,
    already_exists,
    bad_request,
    conflict,
    forbidden,
    invalid,
    not_found,
)
from ovsnet.sandbox.apiserver.store import Key, Store, Stored, encode
from ovsnet.sandbox.apiserver.validation import validate, validate_status, validate_update

_SUFFIX_LENGTH = 5
_KEPT = ("name", "namespace", "uid", "creationTimestamp", "generation", "deletionTimestamp")


class FieldValidation(StrEnum):
    """What happens to fields that the kind does not have (query parameter fieldValidation)."""

    IGNORE = "Ignore"
    WARN = "Warn"
    STRICT = "Strict"


@dataclass
class Write:
    """How a request wants to write, and the warnings that it earned."""

    manager: str = "unknown"
    dry_run: bool = False
    field_validation: FieldValidation = FieldValidation.WARN
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Sources:
    """Where a registry takes time and chance from."""

    now: Callable[[], datetime]
    uid: Callable[[], str]
    suffix: Callable[[int], str]


def timestamp(moment: datetime) -> str:
    """A time as `metadata` has it: RFC 3339, whole seconds, UTC."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


class Registry:
    """The objects of a cluster and what can be done with them."""

    def __init__(self, store: Store, sources: Sources, admission: Admission) -> None:
        self.store = store
        self.sources = sources
        self._admission = admission

    def get(self, kind: Kind, key: Key) -> Stored:
        """The object, or ApiError (404)."""
        found = self.store[kind].get(key)
        if found is None:
            raise not_found(kind, key[1])
        return found

    def create(
        self,
        kind: Kind,
        namespace: str,
        given: Object,
        write: Write,
        fields: ManagedFields | None = None,
    ) -> Stored:
        """Store a new object; `fields` as in `change`.

        Raises ApiError: 400, 403 in a namespace that is going, 404 without one, 409, 422, and
        500 for one that has a resourceVersion.
        """
        obj = self._conform(kind, given, write)
        metadata = obj.setdefault("metadata", {})
        self._place(kind, namespace, metadata)
        if metadata.pop("resourceVersion", ""):
            # A real server answers this with 500 and no reason, so clients see the same here.
            message = "resourceVersion should not be set on objects to be created"
            raise ApiError(500, "", message)
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = metadata["generateName"] + self.sources.suffix(_SUFFIX_LENGTH)
        metadata["uid"] = self.sources.uid()
        metadata["creationTimestamp"] = timestamp(self.sources.now())
        for name in ("deletionTimestamp", "deletionGracePeriodSeconds", "generation", "selfLink"):
            metadata.pop(name, None)
        if kind.counts_generations:
            metadata["generation"] = 1
        if kind.has_status and not kind.status_on_create:
            obj.pop("status", None)
        set_defaults(kind, obj)
        self._admission.complete(kind, obj, None)
        self._require_valid(kind, obj, validate(kind, obj))
        key = (namespace if kind.namespaced else "", metadata["name"])
        if kind.namespaced:
            self._require_namespace(kind, key)
        if self.store[kind].get(key) is not None:
            raise already_exists(kind, key[1])
        self._require_valid(kind, obj, self._admission.prepare(kind, obj, None))
        metadata.pop("managedFields", None)
        if fields is not None:
            fields.write_to(obj)
        if write.dry_run:
            return _unsaved(kind, obj, None)
        return self.store.write(kind, obj)

    def update(
        self, kind: Kind, key: Key, given: Object, write: Write, subresource: str = ""
    ) -> Stored:
        """Replace an object, or the part of it that the subresource is. Raises ApiError."""
        return self.change(kind, key, lambda _: given, write, subresource)

    def apply(
        self,
        kind: Kind,
        key: Key,
        config: Object,
        write: Write,
        *,
        force: bool,
        subresource: str = "",
    ) -> tuple[Stored, int]:
        """Server-side apply: the object and the status code, 201 where it is new.

        Raises ApiError, 409 with a cause per field where another manager disagrees.
        """
        wanted = self._conform(kind, config, write)
        self._place(kind, key[0], wanted.setdefault("metadata", {}))
        now = timestamp(self.sources.now())
        existing = self.store[kind].get(key)
        if existing is None:
            if subresource:
                raise not_found(kind, key[1])
            if wanted["metadata"].setdefault("name", key[1]) != key[1]:
                raise bad_request(f"metadata.name is not the name on the URL ({key[1]})")
            applied = apply_configuration(kind, None, wanted, write.manager, force=force, now=now)
            return self.create(kind, key[0], applied.obj, write, applied.fields), 201
        live = existing.decode()
        applied = apply_configuration(kind, live, wanted, write.manager, force=force, now=now)
        merged = applied.obj
        changed = self.change(
            kind, key, lambda _: merged, write, subresource, fields=applied.fields
        )
        return changed, 200

    def change(
        self,
        kind: Kind,
        key: Key,
        make: Callable[[Object], Object],
        write: Write,
        subresource: str = "",
        *,
        fields: ManagedFields | None = None,
    ) -> Stored:
        """Replace an object by what `make` makes of it.

        `fields` is given by server-side apply, which accounts for its fields itself. Raises
        ApiError: 404, 409 where the new state names another resourceVersion, 422.
        """
        before = self.get(kind, key)
        old = before.decode()
        new = self._conform(kind, make(before.decode()), write)
        self._require_same(kind, key, before, new)
        _carry_over(old["metadata"], new["metadata"])
        new = _restrict(kind, subresource, old, new)
        set_defaults(kind, new)
        if subresource == "status":
            self._require_valid(kind, new, validate_status(kind, new))
        else:
            self._admission.complete(kind, new, old)
            self._require_valid(kind, new, validate(kind, new) or validate_update(kind, new, old))
            self._require_valid(kind, new, self._admission.prepare(kind, new, old))
        # What a scheduler decides is no change of what was wanted.
        if kind.counts_generations and subresource != "binding" and _desired(new) != _desired(old):
            new["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1
        if fields is not None:
            fields.write_to(new)
        else:
            owner = Owner(write.manager, UPDATE, subresource)
            track(kind, old, new, owner, timestamp(self.sources.now()))
        if _same(old, new):
            return before
        if write.dry_run:
            return _unsaved(kind, new, before)
        if is_finished(kind, new):
            return self.store.remove(kind, new)
        return self.store.write(kind, new)

    def delete(self, kind: Kind, key: Key, options: Deletion, write: Write) -> tuple[Stored, bool]:
        """Delete an object, or begin to: the object and whether it is gone.

        It stays, with a deletionTimestamp, while it has finalizers, while a kubelet has yet to
        end it (pods), or while it has contents (namespaces). Raises ApiError (404, 409).
        """
        before = self.get(kind, key)
        obj = before.decode()
        metadata = obj["metadata"]
        check_preconditions(kind, before, options)
        if kind is NAMESPACE and key[1] in ("default", "kube-system", "kube-public"):
            raise forbidden(kind, key[1], "this namespace may not be deleted")
        grace = seconds_to_end(kind, obj, options)
        set_propagation(metadata, options.propagation)
        terminating = "deletionTimestamp" in metadata
        if terminating:
            grace = min(grace, metadata.get("deletionGracePeriodSeconds", grace))
        if kind is NAMESPACE:
            obj.setdefault("status", {})["phase"] = "Terminating"
        waits = bool(metadata.get("finalizers")) or (
            kind is NAMESPACE and bool(obj.get("spec", {}).get("finalizers"))
        )
        if grace == 0 and not waits:
            if not write.dry_run:
                return self.store.remove(kind, obj), True
            return before, True
        if not terminating or grace < metadata.get("deletionGracePeriodSeconds", 0):
            moment = self.sources.now() + timedelta(seconds=grace)
            metadata["deletionTimestamp"] = timestamp(moment)
            metadata["deletionGracePeriodSeconds"] = grace
            if kind.counts_generations and not terminating:
                metadata["generation"] = metadata.get("generation", 0) + 1
        if _same(before.decode(), obj):
            return before, False
        if write.dry_run:
            return _unsaved(kind, obj, before), False
        return self.store.write(kind, obj), False

    def bind(self, key: Key, node: str, write: Write) -> None:
        """Give a pod to a node (pods/binding). Raises ApiError (404, 409)."""

        def bound(pod: Object) -> Object:
            present = pod["spec"].get("nodeName", "")
            if present or "deletionTimestamp" in pod["metadata"]:
                why = f'pod {key[1]} is already assigned to node "{present}"'
                raise conflict(POD, key[1], why if present else "the pod is being deleted")
            pod["spec"]["nodeName"] = node
            conditions = pod.setdefault("status", {}).setdefault("conditions", [])
            conditions[:] = [c for c in conditions if c["type"] != "PodScheduled"]
            moment = timestamp(self.sources.now())
            conditions.append(
                {"type": "PodScheduled", "status": "True", "lastTransitionTime": moment}
            )
            return pod

        self.change(POD, key, bound, write, "binding")

    def _conform(self, kind: Kind, given: Any, write: Write) -> Object:
        if not isinstance(given, dict):
            raise bad_request(f"expected a {kind.kind} as a JSON object")
        obj = dict(given)
        obj.setdefault("apiVersion", kind.api_version)
        obj.setdefault("kind", kind.kind)
        if (obj["apiVersion"], obj["kind"]) != (kind.api_version, kind.kind):
            raise bad_request(
                f"the object provided is a {obj['apiVersion']} {obj['kind']}; "
                f"expected a {kind.api_version} {kind.kind}"
            )
        unknown: list[str] = []
        try:
            conforming: Object = schema.conform(schema.of_kind(kind), obj, unknown)
        except schema.WrongTypeError as error:
            raise bad_request(f"{kind.kind} in version {kind.version!r}: {error}") from None
        warnings = [f'unknown field "{path}"' for path in unknown]
        if warnings and write.field_validation is FieldValidation.STRICT:
            raise bad_request(f"strict decoding error: {', '.join(warnings)}")
        if write.field_validation is FieldValidation.WARN:
            write.warnings += warnings
        return conforming

    def _place(self, kind: Kind, namespace: str, metadata: Object) -> None:
        if not kind.namespaced:
            if metadata.get("namespace"):
                raise bad_request(f"{kind.kind} has no namespace")
            return
        if metadata.setdefault("namespace", namespace) != namespace:
            raise bad_request(
                "the namespace of the provided object does not match the namespace sent on "
                "the request"
            )

    def _require_namespace(self, kind: Kind, key: Key) -> None:
        namespace = self.get(NAMESPACE, ("", key[0]))
        if namespace.fields["status.phase"] == "Terminating":
            why = f"unable to create new content in namespace {key[0]} because it is being " + (
                "terminated"
            )
            cause = Cause("NamespaceTerminating", f"namespace {key[0]} is being terminated", "")
            raise forbidden(kind, key[1], why, [cause])

    def _require_valid(self, kind: Kind, obj: Object, causes: list[Cause]) -> None:
        if causes:
            raise invalid(kind, obj["metadata"].get("name", ""), causes)

    def _require_same(self, kind: Kind, key: Key, before: Stored, new: Object) -> None:
        metadata = new.setdefault("metadata", {})
        if metadata.setdefault("name", key[1]) != key[1]:
            raise bad_request(
                f"the name of the object ({metadata['name']}) does not match the name on the "
                f"URL ({key[1]})"
            )
        self._place(kind, key[0], metadata)
        version = metadata.get("resourceVersion", "")
        if not version and kind is LEASE:
            message = "must be specified for an update"
            cause = Cause("FieldValueInvalid", message, "metadata.resourceVersion")
            raise invalid(kind, key[1], [cause])
        if version and version != str(before.revision):
            raise conflict(kind, key[1], MODIFIED)
        if metadata.get("uid") and metadata["uid"] != before.uid:
            why = (
                f"Precondition failed: UID in precondition: {metadata['uid']}, "
                f"UID in object meta: {before.uid}"
            )
            raise conflict(kind, key[1], why)


def _unsaved(kind: Kind, obj: Object, before: Stored | None) -> Stored:
    """What a dry run answers with: everything but a revision of its own."""
    return encode(kind, obj, before.revision if before is not None else 0)


def _carry_over(old: Object, new: Object) -> None:
    """Keep what no client may change."""
    for name in (*_KEPT, "deletionGracePeriodSeconds", "resourceVersion"):
        if name in old:
            new[name] = old[name]
        else:
            new.pop(name, None)
    new.pop("selfLink", None)
    if "generateName" in old:
        new.setdefault("generateName", old["generateName"])


def _restrict(kind: Kind, subresource: str, old: Object, new: Object) -> Object:
    """The new object with only that changed which the request may change."""
    match subresource:
        case "status":
            metadata = old["metadata"] | {"managedFields": new["metadata"].get("managedFields")}
            if metadata["managedFields"] is None:
                del metadata["managedFields"]
            return old | {"metadata": metadata, "status": new.get("status", {})}
        case "finalize":
            return old | {"spec": new.get("spec", {})}
        case "binding":
            return new
    restricted = dict(new)
    if kind.has_status:
        restricted.pop("status", None)
        if "status" in old:
            restricted["status"] = old["status"]
    if kind is NAMESPACE:
        restricted["spec"] = old.get("spec", {})
    return restricted


def _desired(obj: Object) -> Object:
    return {k: v for k, v in obj.items() if k not in ("metadata", "status")}


def _same(old: Object, new: Object) -> bool:
    return _without_times(old) == _without_times(new)


def _without_times(obj: Object) -> Object:
    """The object without the times of its managed fields: they alone are no change."""
    entries = obj["metadata"].get("managedFields")
    if not entries:
        return obj
    timeless = [{k: v for k, v in entry.items() if k != "time"} for entry in entries]
    return obj | {"metadata": obj["metadata"] | {"managedFields": timeless}}


def new_store(history: int) -> Store:
    """An empty store for every kind in the table."""
    return Store(KINDS, history)
