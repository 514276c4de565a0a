"""A sandbox's API server for tests, and what it was asked and refused.

Where Kubernetes' own is at hand (see `real_apiserver`) it is that, otherwise the embedded one.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

import pytest
from places import SECONDS

from ovsnet.sandbox import access, identities, state
from ovsnet.sandbox.layout import Layout, layout

_MANY_SECONDS = 200.0
ACCOUNTS = tuple(
    f"system:serviceaccount:{identities.NAMESPACE}:{name}"
    for name in (identities.CONTROLLER, identities.AGENT)
)
"""Controller and agents, as the API server knows them."""


class ApiRefusalError(Exception):
    """The API server said no."""


@dataclass
class ApiSide:
    """One sandbox, by its API server."""

    instance: str
    layout: Layout = field(init=False)

    def __post_init__(self) -> None:
        self.layout = layout(self.instance)

    @property
    def state(self) -> state.State:
        return state.running(self.layout)

    @property
    def nodes(self) -> tuple[str, ...]:
        return tuple(each.name for each in self.state.nodes)

    def reach(self) -> None:
        """Know how to reach the API server, once it is up."""
        way = access.of_file(self.layout.kubeconfig)
        self._open = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=way.tls)
        ).open

    def api(self, method: str, path: str, body: Any = None, kind: str = "json") -> Any:
        return json.loads(self.api_bytes(method, path, body, kind))

    def ensure(self, path: str, body: Any) -> None:
        """Make an object, unless there is one of that name."""
        try:
            self.api("POST", path, body)
        except ApiRefusalError as refusal:
            if not str(refusal).startswith("409"):
                raise

    def api_bytes(self, method: str, path: str, body: Any = None, kind: str = "json") -> bytes:
        kinds = {"json": "application/json", "merge": "application/merge-patch+json"}
        request = urllib.request.Request(
            self.state.apiserver.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": kinds[kind]},
        )
        try:
            with self._open(request, timeout=SECONDS) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            raise ApiRefusalError(f"{error.code}: {error.read().decode()}") from None

    def connection(self) -> HTTPConnection:
        """A connection to the API server, for many requests."""
        url = urlsplit(self.state.apiserver.url)
        host, port = url.hostname or "", url.port
        if not self.real:
            return HTTPConnection(host, port, timeout=_MANY_SECONDS)
        tls = access.of_file(self.layout.kubeconfig).tls
        return HTTPSConnection(host, port, timeout=_MANY_SECONDS, context=tls)

    @property
    def real(self) -> bool:
        """Whether the API server is Kubernetes' own."""
        return self.layout.control_plane.exists()

    def refusals(self) -> set[tuple[str, ...]]:
        """What controller and agents were never allowed to do by a real API server.

        One that has just been started may refuse for a moment what it allows at other times.
        """
        if not self.layout.audit_log.exists():
            return set()
        decided: dict[str, set[tuple[str, ...]]] = {"allow": set(), "forbid": set()}
        for event in map(json.loads, self.layout.audit_log.read_text().splitlines()):
            decision = event.get("annotations", {}).get("authorization.k8s.io/decision", "")
            if event["user"]["username"] in ACCOUNTS and decision in decided:
                asked = event.get("objectRef", {"resource": event["requestURI"]})
                # Every Event has a name of its own.
                name = "" if asked["resource"] == "events" else asked.get("name", "")
                place = (asked.get("namespace", ""), asked["resource"], name)
                decided[decision].add((event["user"]["username"], event["verb"], *place))
        return decided["forbid"] - decided["allow"]

    def needs_embedded(self, why: str) -> None:
        """Skip the test where the API server is not the one that does what it needs."""
        if self.real:
            pytest.skip(f"only the embedded API server {why}")

    def fault(self, **faults: Any) -> None:
        self.needs_embedded("refuses and forgets when it is told to")
        self.api("POST", "/sandbox/faults", faults)

    def pod_objects(self) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self.api("GET", "/api/v1/pods")["items"]
        return items
