"""API servers for tests that speak to one and need no cluster: the embedded one, and a real one.

    @pytest.fixture(params=SERVERS)
    def server(request):
        with api_server(request.param) as made:
            yield made

Whatever the server asks of its clients, `url` may be spoken to without credentials.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import urllib.request
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import real_apiserver

from ovsnet.sandbox.apiserver.bootstrap import Advertised
from ovsnet.sandbox.apiserver.server import ApiServer, Options
from ovsnet.sandbox.controlplane.options import CONTROLLER_MANAGER

SERVERS = ("embedded", "real")
_PATIENCE = 30
_CONTROLLERS = {
    "endpointslice": "endpointslice-controller",
    "garbage": "garbage-collector-controller",
}
"""What a controller of the embedded server is called in kube-controller-manager."""


@dataclass(frozen=True)
class Served:
    """An API server: where it is, and the embedded one itself, if it is that."""

    url: str
    kubeconfig: Path
    port: int
    """The port of the service `kubernetes`, where it has an endpoint."""

    embedded: ApiServer | None = None

    def need_embedded(self, why: str) -> ApiServer:
        """The embedded server; skips the test where it is another."""
        if self.embedded is None:
            pytest.skip(f"only the embedded API server {why}")
        return self.embedded

    def send(self, method: str, path: str, body: Any = None) -> Any:
        """The answer to one request of the API."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=_PATIENCE) as answer:
            return json.load(answer)


@contextlib.contextmanager
def api_server(
    which: str, *, controllers: Collection[str] = (), advertised: str = ""
) -> Iterator[Served]:
    """A server with these controllers, that the cluster reaches at that address."""
    port = real_apiserver.free_port()
    if which == "embedded":
        options = Options(
            bookmark_interval=0.5,
            controllers=controllers,
            advertised=Advertised(advertised, port) if advertised else None,
        )
        with ApiServer(options) as server:
            yield Served(server.url, server.kubeconfig, port, server)
        return
    named = ",".join(_CONTROLLERS[name] for name in controllers)
    with (
        real_apiserver.api_server(
            run=(CONTROLLER_MANAGER,) if controllers else (),
            flags={CONTROLLER_MANAGER: (f"--controllers={named}",)},
            pod_ranges=(),
            # Pods need an account, and nobody makes it.
            disable_admission=("ServiceAccount",),
            port=port,
            advertise=advertised,
        ) as kubeconfig,
        _without_credentials(kubeconfig) as url,
    ):
        yield Served(url, kubeconfig, port)


@contextlib.contextmanager
def _without_credentials(kubeconfig: Path) -> Iterator[str]:
    """A URL of 127.0.0.1 behind which everything is done as the kubeconfig's user."""
    command = ("kubectl", f"--kubeconfig={kubeconfig}", "proxy", "--port=0")
    proxy = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert proxy.stdout is not None
    try:
        told = proxy.stdout.readline()
        address = re.search(r"127\.0\.0\.1:\d+", told)
        assert address, told
        yield f"http://{address[0]}"
    finally:
        proxy.kill()
        proxy.communicate()
