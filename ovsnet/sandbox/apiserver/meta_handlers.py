"""Answers that are not about stored objects: versions, health, discovery, OpenAPI, reviews."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from ovsnet.sandbox.apiserver import discovery, openapi
from ovsnet.sandbox.apiserver.body import read_body
from ovsnet.sandbox.apiserver.handlers import json_response
from ovsnet.sandbox.apiserver.kinds import Object
from ovsnet.sandbox.apiserver.request import Form, accepted_form
from ovsnet.sandbox.apiserver.status import method_not_allowed
from ovsnet.sandbox.apiserver.tokens import Tokens

_USER = {"username": "sandbox-admin", "groups": ["system:masters", "system:authenticated"]}
_RULES = {
    "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
    "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
    "incomplete": False,
}
_VERDICTS: dict[str, Object] = {
    "selfsubjectaccessreviews": {"allowed": True, "reason": "the sandbox allows everything"},
    "selfsubjectrulesreviews": _RULES,
    "selfsubjectreviews": {"userInfo": _USER},
}


_REVIEWING = frozenset(group for group, *_ in discovery.REVIEWS)


def _encoded(value: Any) -> web.Response:
    return json_response(msgspec.json.encode(value))


def _discovery(request: web.Request, core: bool, plain: Object) -> web.Response:
    form, content_type = accepted_form(request.headers.get("Accept", ""))
    if form is not Form.DISCOVERY:
        return _encoded(plain)
    version = "v2beta1" if "v=v2beta1" in content_type else "v2"
    response = _encoded(discovery.aggregated(core, version))
    response.headers["Content-Type"] = content_type
    return response


def _openapi(request: web.Request, parts: list[str]) -> web.Response | None:
    match parts:
        case ["openapi", "v2"]:
            if "protobuf" in request.headers.get("Accept", ""):
                headers = {"Content-Type": openapi.V2_PROTOBUF}
                return web.Response(body=openapi.v2_protobuf(), headers=headers)
            return json_response(openapi.v2_json())
        case ["openapi", "v3"]:
            return json_response(openapi.v3_index())
        case ["openapi", "v3", "api", version]:
            document = openapi.v3_document("", version)
            return None if document is None else json_response(document)
        case ["openapi", "v3", "apis", group, version]:
            document = openapi.v3_document(group, version)
            return None if document is None else json_response(document)
    return None


def _discovered(request: web.Request, parts: list[str]) -> web.Response | None:
    found: Object | None = None
    match parts:
        case []:
            found = {
                "paths": ["/api", "/apis", "/healthz", "/openapi/v2", "/openapi/v3", "/version"]
            }
        case ["version"]:
            found = discovery.VERSION
        case ["api"]:
            return _discovery(request, True, discovery.api_versions())
        case ["apis"]:
            return _discovery(request, False, discovery.api_groups())
        case ["api", version]:
            found = discovery.api_resources("", version)
        case ["apis", group]:
            found = discovery.api_group(group)
        case ["apis", group, version] if group:
            found = discovery.api_resources(group, version)
    return None if found is None else _encoded(found)


async def handle_meta(request: web.Request, tokens: Tokens) -> web.Response | None:
    """The answer, or None if the path is none of these. Raises ApiError."""
    parts = [part for part in request.path.split("/") if part]
    if parts[:1] in (["healthz"], ["livez"], ["readyz"]):
        return web.Response(text="ok")
    match parts:
        case ["apis", group, version, plural] if group in _REVIEWING:
            return await _review(request, (group, version, plural), tokens)
    answer = _openapi(request, parts) or _discovered(request, parts)
    if answer is not None and request.method not in ("GET", "HEAD"):
        raise method_not_allowed()
    return answer


async def _review(
    request: web.Request, path: tuple[str, str, str], tokens: Tokens
) -> web.Response | None:
    kind = next((r[3] for r in discovery.REVIEWS if r[:3] == path), None)
    if kind is None:
        return None
    if request.method != "POST":
        raise method_not_allowed()
    body = await read_body(request)
    group, version, plural = path
    if plural in _VERDICTS:
        review = dict(body) if isinstance(body, dict) else {}
        review |= {"kind": kind, "apiVersion": f"{group}/{version}", "status": _VERDICTS[plural]}
    else:
        review = tokens.review(body)
    return json_response(msgspec.json.encode(review), 201)
