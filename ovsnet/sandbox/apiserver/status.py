"""Failures as Kubernetes reports them: a `Status` object with a reason, a code and causes.

The reasons and codes are those of the API conventions ("Response Status Kind") and of
`meta/v1` Status in the API reference.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ovsnet.sandbox.apiserver.kinds import Kind, Object


class Cause(NamedTuple):
    """One reason of a failure: what kind, in words, and the field it is about."""

    reason: str
    message: str
    field: str


class ApiError(Exception):
    """A request that failed, with everything that its Status says."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        kind: Kind | None = None,
        name: str = "",
        causes: Sequence[Cause] = (),
        retry_after: int = 0,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.kind = kind
        self.name = name
        self.causes = tuple(causes)
        self.retry_after = retry_after

    def status(self) -> Object:
        """The Status object that the client gets."""
        details: Object = {}
        if self.name:
            details["name"] = self.name
        if self.kind is not None:
            if self.kind.group:
                details["group"] = self.kind.group
            invalid = self.reason == "Invalid"
            details["kind"] = self.kind.kind if invalid else self.kind.plural
        if self.causes:
            details["causes"] = [
                {"reason": c.reason, "message": c.message, "field": c.field} for c in self.causes
            ]
        if self.retry_after:
            details["retryAfterSeconds"] = self.retry_after
        status: Object = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "code": self.code,
        }
        if self.reason:
            status["reason"] = self.reason
        if details:
            status["details"] = details
        return status


def success(kind: Kind, name: str, uid: str) -> Object:
    """The Status of a deletion that is complete."""
    details: Object = {"name": name, "kind": kind.plural, "uid": uid}
    if kind.group:
        details["group"] = kind.group
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": details,
    }


def bad_request(message: str) -> ApiError:
    """400: the request itself cannot be understood."""
    return ApiError(400, "BadRequest", message)


def not_found(kind: Kind, name: str) -> ApiError:
    """404: no such object."""
    return ApiError(404, "NotFound", f'{kind.resource} "{name}" not found', kind=kind, name=name)


def no_such_path() -> ApiError:
    """404: no such resource."""
    return ApiError(404, "NotFound", "the server could not find the requested resource")


def already_exists(kind: Kind, name: str) -> ApiError:
    """409: the name is taken."""
    return ApiError(
        409, "AlreadyExists", f'{kind.resource} "{name}" already exists', kind=kind, name=name
    )


def conflict(kind: Kind, name: str, why: str) -> ApiError:
    """409: the object is not what the client thinks it is."""
    message = f'Operation cannot be fulfilled on {kind.resource} "{name}": {why}'
    return ApiError(409, "Conflict", message, kind=kind, name=name)


MODIFIED = (
    "the object has been modified; please apply your changes to the latest version and try again"
)
"""Why an update with an old resourceVersion is refused."""


def forbidden(kind: Kind, name: str, why: str, causes: Sequence[Cause] = ()) -> ApiError:
    """403: refused by a rule."""
    message = f'{kind.resource} "{name}" is forbidden: {why}'
    return ApiError(403, "Forbidden", message, kind=kind, name=name, causes=causes)


def method_not_allowed() -> ApiError:
    """405: the resource has no such verb."""
    message = "the server does not allow this method on the requested resource"
    return ApiError(405, "MethodNotAllowed", message)


def invalid(kind: Kind, name: str, causes: Iterable[Cause]) -> ApiError:
    """422: the object is well formed and means nothing; every cause names its field."""
    listed = tuple(causes)
    texts = [f"{c.field}: {c.message}" for c in listed]
    joined = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    qualified = f"{kind.kind}.{kind.group}" if kind.group else kind.kind
    message = f'{qualified} "{name}" is invalid: {joined}'
    return ApiError(422, "Invalid", message, kind=kind, name=name, causes=listed)


def expired(message: str) -> ApiError:
    """410: the revision is no longer in the history; list again."""
    return ApiError(410, "Expired", message)


def too_large_version(wanted: int, current: int) -> ApiError:
    """504: a revision that does not exist yet."""
    return ApiError(
        504,
        "Timeout",
        f"Timeout: Too large resource version: {wanted}, current: {current}",
        causes=(Cause("ResourceVersionTooLarge", "Too large resource version", ""),),
        retry_after=1,
    )
