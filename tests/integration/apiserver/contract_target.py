"""A server to test, and how to talk to it: as it is, and by kubectl."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, Queue
from typing import Any
from urllib.parse import urlencode

import pytest
from kubernetes import client, config

from ovsnet.sandbox.apiserver.server import ApiServer


@dataclass
class Answer:
    status: int
    body: Any
    headers: dict[str, str]


@dataclass
class Target:
    """A server to test, and how to talk to it."""

    kubeconfig: Path
    embedded: ApiServer | None
    api: client.ApiClient = field(init=False)

    def __post_init__(self) -> None:
        settings = client.Configuration()
        config.load_kube_config(str(self.kubeconfig), client_configuration=settings)
        settings.retries = False
        self.api = client.ApiClient(settings)

    def open(self, method, path, body=None, media="application/json", accept="*/*", **query):
        """Send a request as it is; the response is not read yet."""
        url = self.api.configuration.host + path + (f"?{urlencode(query)}" if query else "")
        headers = {"Accept": accept, "User-Agent": "contract/1"}
        self.api.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
        data = body
        if body is not None:
            headers["Content-Type"] = media
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.api.rest_client.pool_manager.request(
            method, url, body=data, headers=headers, preload_content=False, timeout=30
        )

    def request(self, method, path, body=None, **options) -> Answer:
        response = self.open(method, path, body, **options)
        text = response.read()
        response.release_conn()
        try:
            decoded = json.loads(text)
        except ValueError:
            decoded = text.decode()
        return Answer(response.status, decoded, dict(response.headers))

    def ok(self, method, path, body=None, **options) -> Any:
        answer = self.request(method, path, body, **options)
        assert answer.status < 300, answer.body
        return answer.body

    def watch(self, path: str, **query) -> Watch:
        return Watch(self.open("GET", path, watch="1", **query))


class Watch:
    """A watch, read by a thread, so that tests can wait for events and not for silence."""

    def __init__(self, response) -> None:
        self._response = response
        self._events: Queue = Queue()
        self.status = response.status
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            for line in self._lines():
                self._events.put(json.loads(line))
        except Exception as error:
            self._events.put({"type": "CUT", "object": repr(error)})
        self._events.put(None)

    def _lines(self) -> Iterator[bytes]:
        rest = b""
        for chunk in self._response.stream(amt=None):
            *lines, rest = (rest + chunk).split(b"\n")
            yield from lines

    def next(self, timeout: float = 10) -> Any:
        """The next event; None at the end. Fails if none comes in time."""
        try:
            return self._events.get(timeout=timeout)
        except Empty:
            pytest.fail("no event came")

    def until(self, name: str) -> list[Any]:
        """The events up to the one about the object of that name."""
        events = []
        while True:
            event = self.next()
            assert event is not None, "the watch ended"
            if event["type"] == "BOOKMARK":
                continue
            events.append(event)
            if event["object"]["metadata"]["name"] == name:
                return events

    def rest(self) -> list[Any]:
        """The events up to the end of the watch."""
        return list(iter(self.next, None))

    def close(self) -> None:
        self._response.shutdown()


def make_namespace(target: Target) -> str:
    name = f"contract-{uuid.uuid4().hex[:8]}"
    target.ok("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    # Pods need the account; without controllers nobody else makes it.
    path = f"/api/v1/namespaces/{name}/serviceaccounts"
    answer = target.request("POST", path, {"metadata": {"name": "default"}})
    assert answer.status in (201, 409)
    return name


def kubectls() -> list[str]:
    listed = os.environ.get("OVSNET_KUBECTL", "")
    found = [path for path in listed.split(":") if path] or [shutil.which("kubectl") or ""]
    return [path for path in found if path]


class Kubectl:
    """A kubectl that talks to a target, in a namespace."""

    def __init__(self, path: str, target: Target, cache: Path, namespace: str) -> None:
        self.path = path
        self._command = [path, f"--kubeconfig={target.kubeconfig}", f"--cache-dir={cache}"]
        self.namespace = namespace

    def run(self, *arguments: str, given: str = "", namespaced: bool = True):
        place = ["-n", self.namespace] if namespaced else []
        return subprocess.run(
            [*self._command, *place, *arguments],
            input=given,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def __call__(self, *arguments: str, given: str = "", namespaced: bool = True) -> str:
        done = self.run(*arguments, given=given, namespaced=namespaced)
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
        return done.stdout

    def start(self, *arguments: str) -> subprocess.Popen:
        return subprocess.Popen(
            [*self._command, "-n", self.namespace, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
