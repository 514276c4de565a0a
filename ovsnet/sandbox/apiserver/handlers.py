"""One call of the registry per request: what the verbs of HTTP do to objects and collections."""

from __future__ import annotations

import random
from datetime import datetime
from typing import Any

import msgspec
from aiohttp import web

from ovsnet.sandbox.apiserver import schema
from ovsnet.sandbox.apiserver.answers import list_page, presentation
from ovsnet.sandbox.apiserver.apply import check_applied
from ovsnet.sandbox.apiserver.body import deletion_options, media_type, read_body, write_options
from ovsnet.sandbox.apiserver.discovery import WITHOUT_RUNTIME
from ovsnet.sandbox.apiserver.kinds import NAMESPACE, POD, SERVICE_ACCOUNT, Object
from ovsnet.sandbox.apiserver.patching import APPLY_PATCH, patcher
from ovsnet.sandbox.apiserver.registry import Registry, Write
from ovsnet.sandbox.apiserver.request import (
    Target,
    accepted_form,
    flag,
    list_options,
    number,
    scope,
)
from ovsnet.sandbox.apiserver.scale import DEFINITION as SCALE
from ovsnet.sandbox.apiserver.scale import scale_of, with_scale
from ovsnet.sandbox.apiserver.status import (
    ApiError,
    Cause,
    bad_request,
    method_not_allowed,
    no_such_path,
    success,
)
from ovsnet.sandbox.apiserver.store import Stored
from ovsnet.sandbox.apiserver.tokens import Tokens
from ovsnet.sandbox.apiserver.watch_stream import Watchers, WatchOptions

_SHORTEST_WATCH = 1800.0
"""Seconds that a watch without a timeout lasts at least; at most twice that, as real ones do."""


def json_response(
    body: bytes, status: int = 200, warnings: list[str] | None = None
) -> web.Response:
    """An answer in JSON, with the request's warnings (RFC 9111's Warning header, code 299)."""
    response = web.Response(body=body, status=status, content_type="application/json")
    for text in warnings or ():
        escaped = text.replace("\\", "\\\\").replace('"', '\\"')
        response.headers.add("Warning", f'299 - "{escaped}"')
    return response


class ObjectHandlers:
    """Answers requests for stored objects."""

    def __init__(self, registry: Registry, watchers: Watchers, tokens: Tokens) -> None:
        self._registry = registry
        self._watchers = watchers
        self._tokens = tokens

    def _now(self) -> datetime:
        return self._registry.sources.now()

    async def handle(self, request: web.Request, target: Target) -> web.StreamResponse:
        """Answer a request. Raises ApiError."""
        if not target.name:
            return await self._handle_collection(request, target)
        if not target.subresource:
            return await self._handle_object(request, target)
        if target.subresource == "status" and target.kind.has_status:
            return await self._handle_part(request, target)
        if target.subresource == "scale" and target.kind.scales:
            return await self._scale(request, target)
        return await self._handle_subresource(request, target)

    async def _handle_subresource(self, request: web.Request, target: Target) -> web.StreamResponse:
        if (target.kind, target.subresource) in WITHOUT_RUNTIME:
            self._registry.get(target.kind, target.key)
            message = WITHOUT_RUNTIME[target.kind, target.subresource]
            raise ApiError(501, "NotImplemented", message)
        match request.method, target.subresource:
            case "POST", "binding" | "eviction" if target.kind is POD:
                return await self._post_to_pod(request, target)
            case "POST", "token" if target.kind is SERVICE_ACCOUNT:
                answer = self._tokens.request(target.key, await read_body(request))
                return json_response(msgspec.json.encode(answer), 201)
            case "PUT", "finalize" if target.kind is NAMESPACE:
                return await self._update(request, target)
        raise no_such_path()

    async def _handle_object(self, request: web.Request, target: Target) -> web.StreamResponse:
        watch = target.watch or flag(request.query, "watch")
        if request.method == "GET" and watch:
            return await self._watch(request, target)
        if request.method == "DELETE":
            return await self._delete(request, target)
        return await self._handle_part(request, target)

    async def _handle_part(self, request: web.Request, target: Target) -> web.StreamResponse:
        """What an object and its status have in common."""
        match request.method:
            case "GET":
                return self._answer(request, target, self._registry.get(target.kind, target.key))
            case "PUT":
                return await self._update(request, target)
            case "PATCH":
                return await self._patch(request, target)
        raise method_not_allowed()

    async def _handle_collection(self, request: web.Request, target: Target) -> web.StreamResponse:
        match request.method:
            case "GET" if target.watch or flag(request.query, "watch"):
                return await self._watch(request, target)
            case "GET":
                return self._list(request, target)
            case "POST" if target.namespace is not None or not target.kind.namespaced:
                return await self._create(request, target)
            case "DELETE" if target.namespace is not None or not target.kind.namespaced:
                return await self._delete_collection(request, target)
        raise method_not_allowed()

    def _answer(
        self,
        request: web.Request,
        target: Target,
        stored: Stored,
        status: int = 200,
        write: Write | None = None,
    ) -> web.Response:
        form, _ = accepted_form(request.headers.get("Accept", ""))
        shown = presentation(target.kind, form, request.query, self._now())
        return json_response(shown.one(stored), status, write.warnings if write else None)

    def _list(self, request: web.Request, target: Target) -> web.Response:
        form, _ = accepted_form(request.headers.get("Accept", ""))
        shown = presentation(target.kind, form, request.query, self._now())
        options = list_options(request.query)
        page = list_page(self._registry.store, target.kind, scope(target, request.query), options)
        return json_response(shown.page(page))

    async def _watch(self, request: web.Request, target: Target) -> web.StreamResponse:
        query = request.query
        form, _ = accepted_form(request.headers.get("Accept", ""))
        shown = presentation(target.kind, form, query, self._now())
        initial = flag(query, "sendInitialEvents")
        match = query.get("resourceVersionMatch", "")
        if initial is not (match == "NotOlderThan"):
            message = "resourceVersionMatch NotOlderThan goes with sendInitialEvents, and only so"
            cause = Cause("FieldValueForbidden", message, "sendInitialEvents")
            raise ApiError(422, "Invalid", f"sendInitialEvents: {message}", causes=[cause])
        seconds = number(query, "timeoutSeconds")
        bookmarks = flag(query, "allowWatchBookmarks")
        options = WatchOptions(
            scope=scope(target, query),
            revision=number(query, "resourceVersion") or 0,
            timeout=float(seconds or _SHORTEST_WATCH * random.uniform(1, 2)),
            bookmarks=bookmarks,
            initial_events_end=initial and bookmarks,
        )
        render = shown.for_watch(self._now)
        return await self._watchers.serve(request, target.kind, options, render)

    async def _create(self, request: web.Request, target: Target) -> web.Response:
        write = write_options(request)
        body = await read_body(request)
        namespace = target.namespace or ""
        stored = self._registry.create(target.kind, namespace, body, write)
        return self._answer(request, target, stored, 201, write)

    async def _update(self, request: web.Request, target: Target) -> web.Response:
        write = write_options(request)
        body = await read_body(request)
        if not isinstance(body, dict):
            raise bad_request(f"expected a {target.kind.kind} as a JSON object")
        stored = self._registry.update(target.kind, target.key, body, write, target.subresource)
        return self._answer(request, target, stored, 200, write)

    async def _patch(self, request: web.Request, target: Target) -> web.Response:
        write = write_options(request)
        body = await read_body(request)
        media = media_type(request)
        if media == APPLY_PATCH:
            stored, status = self._apply(request, target, body, write)
            return self._answer(request, target, stored, status, write)
        change = patcher(media, body, schema.of_kind(target.kind))
        stored = self._registry.change(target.kind, target.key, change, write, target.subresource)
        return self._answer(request, target, stored, 200, write)

    def _apply(
        self, request: web.Request, target: Target, config: Any, write: Write
    ) -> tuple[Stored, int]:
        if not isinstance(config, dict):
            raise bad_request(f"expected a {target.kind.kind} as a YAML mapping")
        if not request.query.get("fieldManager"):
            cause = Cause("FieldValueRequired", "is required for apply patch", "fieldManager")
            message = 'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: '
            raise ApiError(422, "Invalid", message + cause.message, causes=[cause])
        check_applied(config)
        return self._registry.apply(
            target.kind,
            target.key,
            config,
            write,
            force=flag(request.query, "force"),
            subresource=target.subresource,
        )

    async def _delete(self, request: web.Request, target: Target) -> web.Response:
        write = write_options(request)
        options = deletion_options(await read_body(request), request.query, write)
        stored, gone = self._registry.delete(target.kind, target.key, options, write)
        if gone and target.kind is not POD:
            status = success(target.kind, target.name, stored.uid)
            return json_response(msgspec.json.encode(status))
        return self._answer(request, target, stored)

    async def _delete_collection(self, request: web.Request, target: Target) -> web.Response:
        write = write_options(request)
        options = deletion_options(await read_body(request), request.query, write)
        form, _ = accepted_form(request.headers.get("Accept", ""))
        shown = presentation(target.kind, form, request.query, self._now())
        page = list_page(
            self._registry.store,
            target.kind,
            scope(target, request.query),
            list_options(request.query),
        )
        for item in page.items:
            self._registry.delete(target.kind, item.key, options, write)
        return json_response(shown.page(page))

    async def _post_to_pod(self, request: web.Request, target: Target) -> web.Response:
        write = write_options(request)
        body = await read_body(request)
        if not isinstance(body, dict):
            raise bad_request("expected a JSON object")
        if target.subresource == "eviction":
            options = deletion_options(body.get("deleteOptions"), request.query, write)
            self._registry.delete(POD, target.key, options, write)
        else:
            node = body.get("target", {}).get("name")
            if not node:
                raise bad_request("target.name: expected the name of a node")
            self._registry.bind(target.key, node, write)
        done = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
        return json_response(msgspec.json.encode(done | {"code": 201}), 201)

    async def _scale(self, request: web.Request, target: Target) -> web.Response:
        write = write_options(request)
        if request.method not in ("GET", "PUT", "PATCH"):
            raise method_not_allowed()
        if request.method == "GET":
            stored = self._registry.get(target.kind, target.key)
        else:
            body, media = await read_body(request), media_type(request)

            def scaled(obj: Object) -> Object:
                scale = scale_of(obj)
                if request.method == "PATCH":
                    return with_scale(obj, patcher(media, body, schema.of_definition(SCALE))(scale))
                return with_scale(obj, body if isinstance(body, dict) else {})

            stored = self._registry.change(target.kind, target.key, scaled, write, "scale")
        return json_response(msgspec.json.encode(scale_of(stored.decode())))
