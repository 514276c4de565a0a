"""A small client of the Kubernetes API, as much as the kubelet stand-in and the sandbox need.

It works on decoded JSON, for a kubelet hands most of an object through unread.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self

import aiohttp

from ovsnet.sandbox.access import Access

Object = dict[str, Any]

_MERGE_PATCH = "application/merge-patch+json"
_LONGEST_LINE = 8 << 20
_EXPIRED = 410
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0
_REQUEST_SECONDS = 30.0


class ApiError(Exception):
    """The API server refused a request; `status` is HTTP's."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


UNREACHABLE = (aiohttp.ClientError, TimeoutError, OSError)
"""What a request raises when no API server answers."""


class Listed(NamedTuple):
    """Everything that there is now; what was known before is void."""

    items: list[Object]


class Changed(NamedTuple):
    """One object was added or modified."""

    item: Object


class Deleted(NamedTuple):
    """One object is gone; `item` is its last state."""

    item: Object


Event = Listed | Changed | Deleted


class Client:
    """Requests to one API server. An asynchronous context manager."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        token = self._access.token
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=aiohttp.ClientTimeout(total=_REQUEST_SECONDS),
            connector=aiohttp.TCPConnector(limit=0, ssl=self._access.tls or True),
            read_bufsize=_LONGEST_LINE,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._session.close()

    async def request(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        parameters: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> Object:
        """One request and the object that answers it.

        Raises:
            ApiError: the server refused it.
            aiohttp.ClientError, TimeoutError, OSError: no server answered.
        """
        async with self._session.request(
            method,
            self._access.server + path,
            params=parameters,
            data=None if body is None else json.dumps(body),
            headers={"Content-Type": content_type, "Accept": "application/json"},
        ) as response:
            answer: Object = await response.json(content_type=None)
            if response.status >= 400:
                raise ApiError(response.status, str(answer.get("message", response.reason)))
            return answer

    async def get(self, path: str, **parameters: str) -> Object:
        """An object or a list. Raises as `request` does."""
        return await self.request("GET", path, parameters=parameters)

    async def text(self, path: str) -> str:
        """What answers a GET, whatever it is. Raises as `request` does."""
        async with self._session.get(self._access.server + path) as response:
            said = await response.text()
            if response.status >= 400:
                raise ApiError(response.status, said)
            return said

    async def create(self, path: str, body: Object) -> Object:
        """Create an object in a collection. Raises as `request` does."""
        return await self.request("POST", path, body)

    async def merge(self, path: str, patch: Object) -> Object:
        """Merge into an object (RFC 7396: lists are replaced). Raises as `request` does."""
        return await self.request("PATCH", path, patch, content_type=_MERGE_PATCH)

    async def patch_status(self, path: str, status: Object, uid: str = "") -> Object:
        """Merge into an object's status, as `merge` does. Raises as `request`.

        With a `uid` only into that one: a later object of its name answers with 409.
        """
        patch: Object = {"status": status}
        if uid:
            patch["metadata"] = {"uid": uid}
        return await self.merge(f"{path}/status", patch)

    async def delete(self, path: str, uid: str, grace_seconds: int) -> Object:
        """Delete one object and no later one of its name. Raises as `request` does."""
        options = {
            "kind": "DeleteOptions",
            "apiVersion": "v1",
            "gracePeriodSeconds": grace_seconds,
            "preconditions": {"uid": uid},
        }
        return await self.request("DELETE", path, options)

    async def follow(self, path: str, **parameters: str) -> AsyncIterator[Event]:
        """A list and then every change, for ever; a new list whenever changes may be missing.

        While the server is away nothing is yielded: what is known stays true until it says more.
        """
        pause = _FIRST_PAUSE
        version = ""
        while True:
            try:
                if not version:
                    listing = await self.get(path, **parameters)
                    version = listing["metadata"]["resourceVersion"]
                    yield Listed(listing["items"])
                async for kind, item in self._watch(path, version, parameters):
                    if kind == "ERROR":
                        raise ApiError(item.get("code", _EXPIRED), item.get("message", ""))
                    version = item["metadata"]["resourceVersion"]
                    if kind == "DELETED":
                        yield Deleted(item)
                    elif kind != "BOOKMARK":
                        yield Changed(item)
                # A server ends every watch after a while; there is nothing wrong with that.
                pause = _FIRST_PAUSE
            except ApiError:
                # 410 says that the version is too old; on any other refusal a list is safe too.
                version = ""
            except UNREACHABLE:
                pause = min(pause * 2, _LONGEST_PAUSE)
            await asyncio.sleep(pause)

    async def _watch(
        self, path: str, version: str, parameters: Mapping[str, str]
    ) -> AsyncIterator[tuple[str, Object]]:
        query = {
            **parameters,
            "watch": "true",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
        }
        # The server is asked for a bookmark every minute at least; a silent connection is dead.
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=180)
        async with self._session.get(
            self._access.server + path, params=query, timeout=timeout
        ) as response:
            if response.status >= 400:
                raise ApiError(response.status, await response.text())
            async for line in response.content:
                event = json.loads(line)
                yield event["type"], event["object"]
