"""What a request asks for, read from its path, query and Accept header. Pure."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

import msgspec

from ovsnet.sandbox.apiserver.kinds import BY_PATH, NAMESPACE, Kind
from ovsnet.sandbox.apiserver.selectors import parse_fields, parse_labels
from ovsnet.sandbox.apiserver.status import (
    ApiError,
    Cause,
    bad_request,
    expired,
    no_such_path,
)
from ovsnet.sandbox.apiserver.store import Key
from ovsnet.sandbox.apiserver.watching import Scope


@dataclass(frozen=True)
class Target:
    """The resource that a path names."""

    kind: Kind
    namespace: str | None = None
    name: str = ""
    subresource: str = ""
    watch: bool = False
    """Whether the path is of the old form `/api/v1/watch/...`."""

    @property
    def key(self) -> Key:
        """Key of the object in the store."""
        return (self.namespace or "" if self.kind.namespaced else "", self.name)


def _split(path: str) -> tuple[str, str, list[str]]:
    parts = [part for part in path.split("/") if part]
    if parts[:1] == ["api"] and len(parts) >= 3:
        return "", parts[1], parts[2:]
    if parts[:1] == ["apis"] and len(parts) >= 4:
        return parts[1], parts[2], parts[3:]
    raise no_such_path()


def parse_path(path: str) -> Target:
    """The target of `/api/v1/namespaces/ns/pods/p/status` and its like. Raises ApiError (404)."""
    group, version, rest = _split(path)
    watch = rest[0] == "watch"
    if watch:
        rest = rest[1:]
    namespace: str | None = None
    # /namespaces/NAME/status and /finalize are about the namespace itself.
    if rest[:1] == ["namespaces"] and len(rest) > 2 and rest[2] not in ("status", "finalize"):
        namespace, rest = rest[1], rest[2:]
    kind = BY_PATH.get((group, version, rest[0])) if rest else None
    if kind is None or len(rest) > 3 or (namespace is not None and not kind.namespaced):
        raise no_such_path()
    name, subresource = [*rest[1:], "", ""][:2]
    if kind.namespaced and name and namespace is None:
        raise no_such_path()
    if kind is NAMESPACE:
        namespace = None
    return Target(kind, namespace, name, subresource, watch)


def scope(target: Target, query: Mapping[str, str]) -> Scope:
    """What a list or watch is about. Raises ApiError (400) for a selector that makes no sense."""
    known = {"metadata.name", *target.kind.fields}
    if target.kind.namespaced:
        known.add("metadata.namespace")
    fields = query.get("fieldSelector", "")
    if target.name:
        fields = f"metadata.name={target.name}"
    return Scope(
        namespace=target.namespace if target.kind.namespaced else None,
        labels=parse_labels(query.get("labelSelector", "")),
        fields=parse_fields(fields, known),
    )


def flag(query: Mapping[str, str], name: str) -> bool:
    """A boolean parameter: present and not "false" or "0"."""
    return query.get(name, "false").lower() not in ("false", "0")


def number(query: Mapping[str, str], name: str) -> int | None:
    """A parameter that is a whole number, or None if it is absent. Raises ApiError (400)."""
    text = query.get(name, "")
    if not text:
        return None
    if not text.isdecimal():
        raise bad_request(f"{name}: expected a whole number, got {text!r}")
    return int(text)


class VersionMatch(Enum):
    """How a list's resourceVersion is meant (API concepts, "resourceVersionMatch")."""

    NEWEST = "newest"
    NOT_OLDER_THAN = "NotOlderThan"
    EXACT = "Exact"


class ContinueToken(NamedTuple):
    """Where a paged list goes on: after a key, at the revision of its first page."""

    revision: int
    after: Key


def encode_token(token: ContinueToken) -> str:
    """The token as clients carry it."""
    return base64.urlsafe_b64encode(msgspec.json.encode(token)).decode()


def decode_token(text: str) -> ContinueToken:
    """Read a token. Raises ApiError (400) for one that this server did not make."""
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(text), type=ContinueToken)
    except (ValueError, binascii.Error, msgspec.MsgspecError):
        raise bad_request(f"continue key is not valid: {text!r}") from None


@dataclass(frozen=True)
class ListOptions:
    """Which state of a collection a list wants, and how much of it."""

    match: VersionMatch
    revision: int
    limit: int
    token: ContinueToken | None


def _forbidden_match(message: str) -> ApiError:
    cause = Cause("FieldValueForbidden", message, "resourceVersionMatch")
    text = f"resourceVersionMatch: Forbidden: {message}"
    return ApiError(
        422, "Invalid", f'ListOptions.meta.k8s.io "" is invalid: {text}', causes=[cause]
    )


def list_options(query: Mapping[str, str]) -> ListOptions:
    """Read the parameters of a list. Raises ApiError (400, 422) where they contradict."""
    limit = number(query, "limit") or 0
    version = query.get("resourceVersion", "")
    revision = number(query, "resourceVersion") or 0
    match = query.get("resourceVersionMatch", "")
    if query.get("continue"):
        if version not in ("", "0"):
            raise bad_request("specifying resource version is not allowed when using continue")
        if match:
            raise _forbidden_match("resourceVersionMatch is forbidden when using continue")
        token = decode_token(query["continue"])
        return ListOptions(VersionMatch.EXACT, token.revision, limit, token)
    if match and not version:
        raise _forbidden_match("resourceVersionMatch is forbidden unless resourceVersion is given")
    if match not in ("", "Exact", "NotOlderThan"):
        raise _forbidden_match(f"{match!r} is neither Exact nor NotOlderThan")
    if match == "Exact" and revision == 0:
        raise _forbidden_match('resourceVersionMatch "Exact" is forbidden for resourceVersion "0"')
    if revision == 0:
        return ListOptions(VersionMatch.NEWEST, 0, limit, None)
    # Without a match, a paged list of an exact version is served exactly, an unpaged one at least
    # as new: the table in the API concepts says so.
    exact = match == "Exact" or (not match and limit > 0)
    wanted = VersionMatch.EXACT if exact else VersionMatch.NOT_OLDER_THAN
    return ListOptions(wanted, revision, limit, None)


def expired_token() -> ApiError:
    """410 for a paged list whose state is no longer in the history."""
    return expired(
        "The provided continue parameter is too old to display a consistent list result. "
        "You must start a new list without the continue parameter."
    )


class Form(Enum):
    """In which form objects are answered."""

    JSON = "json"
    TABLE = "Table"
    METADATA = "PartialObjectMetadata"
    DISCOVERY = "APIGroupDiscoveryList"


def accepted_form(accept: str) -> tuple[Form, str]:
    """The first form of an Accept header that this server has, and its content type.

    Raises ApiError (406) if there is none: this server speaks JSON alone.
    """
    for item in accept.split(",") if accept else ["*/*"]:
        media, *parameters = (part.strip() for part in item.split(";"))
        if media not in ("application/json", "application/*", "*/*"):
            continue
        wanted = dict(p.split("=", 1) for p in parameters if "=" in p)
        name = wanted.get("as", "").removesuffix("List")
        if not name:
            return Form.JSON, "application/json"
        if name == "APIGroupDiscovery" and wanted.get("v") in ("v2", "v2beta1"):
            return Form.DISCOVERY, (
                f"application/json;g=apidiscovery.k8s.io;v={wanted['v']};as=APIGroupDiscoveryList"
            )
        if wanted.get("v") == "v1" and name in ("Table", "PartialObjectMetadata"):
            return Form(name), "application/json"
    raise ApiError(
        406,
        "NotAcceptable",
        "only the following media types are accepted: application/json",
    )
