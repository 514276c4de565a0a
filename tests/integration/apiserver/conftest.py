"""The contract tests' target: the embedded server, and a real one wherever one is at hand.

OVSNET_SANDBOX_APISERVER names a directory with a real kube-apiserver, on which the same tests run;
OVSNET_TEST_KUBECONFIG the kubeconfig of one that runs already, and needs no controllers or nodes.
OVSNET_KUBECTL names the kubectls to use, separated by `:`; without it the one on PATH is used.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import real_apiserver
from contract_target import Kubectl, Target, kubectls, make_namespace

from ovsnet.sandbox.apiserver.server import ApiServer, Options


@pytest.fixture(scope="session", params=["embedded", "real"])
def target(request) -> Iterator[Target]:
    if request.param == "real":
        if path := os.environ.get("OVSNET_TEST_KUBECONFIG"):
            yield Target(Path(path), None)
            return
        with real_apiserver.api_server() as kubeconfig:
            yield Target(kubeconfig, None)
        return
    with ApiServer(Options(bookmark_interval=0.5)) as server:
        yield Target(server.kubeconfig, server)


@pytest.fixture
def embedded() -> Iterator[Target]:
    """An embedded server of the test's own: for faults, controllers and short histories."""
    with ApiServer(Options(history=50, bookmark_interval=0.5)) as server:
        yield Target(server.kubeconfig, server)


@pytest.fixture
def namespace(target) -> Iterator[str]:
    name = make_namespace(target)
    yield name
    target.request("DELETE", f"/api/v1/namespaces/{name}")


@pytest.fixture(params=kubectls() or [None])
def kubectl(request, target, namespace, tmp_path) -> Kubectl:
    if request.param is None:
        pytest.skip("no kubectl on PATH, and OVSNET_KUBECTL is not set")
    return Kubectl(request.param, target, tmp_path, namespace)
