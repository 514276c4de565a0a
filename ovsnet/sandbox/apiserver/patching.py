"""From a patch request's content type and body to what it makes of an object."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ovsnet.sandbox.apiserver.kinds import Object
from ovsnet.sandbox.apiserver.patch.json_patch import PatchError, apply_json_patch
from ovsnet.sandbox.apiserver.patch.merge_patch import apply_merge_patch
from ovsnet.sandbox.apiserver.patch.strategic import apply_strategic_patch
from ovsnet.sandbox.apiserver.schema import Schema
from ovsnet.sandbox.apiserver.status import ApiError, bad_request

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"


def unsupported_media(media: str) -> ApiError:
    """415: a body in a form that this server does not read."""
    return ApiError(
        415,
        "UnsupportedMediaType",
        f"the body of the request was in an unknown format - {media!r} is not among the accepted "
        f"media types: {JSON_PATCH}, {MERGE_PATCH}, {STRATEGIC_MERGE_PATCH}, {APPLY_PATCH}",
    )


def patcher(media: str, patch: Any, schema: Schema) -> Callable[[Object], Object]:
    """What a patch of that media type does to an object of that type. Raises ApiError (415).

    The returned function raises ApiError (400, 422) for a patch that does not fit.
    """
    match media:
        case "application/json-patch+json":

            def change(obj: Object) -> Any:
                return apply_json_patch(obj, patch)

        case "application/merge-patch+json":

            def change(obj: Object) -> Any:
                return apply_merge_patch(obj, patch)

        case "application/strategic-merge-patch+json":

            def change(obj: Object) -> Any:
                return apply_strategic_patch(obj, patch, schema)

        case _:
            raise unsupported_media(media)

    def patched(obj: Object) -> Object:
        try:
            result = change(obj)
        except PatchError as error:
            if media == JSON_PATCH:
                message = f"the server rejected our request due to an error in our request: {error}"
                raise ApiError(422, "Invalid", message) from None
            raise bad_request(str(error)) from None
        if not isinstance(result, dict):
            raise bad_request("the patch leaves no object")
        return result

    return patched
