"""As whom each part of a sandbox speaks to the API server.

The embedded one asks nobody who they are. Kubernetes' own knows kubelets by certificates that are
theirs alone, as in any cluster, and controller and agents by the service accounts of the rights
that they were given.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ovsnet.sandbox import access, plan, rights
from ovsnet.sandbox.client import Client, Object
from ovsnet.sandbox.controlplane import credentials
from ovsnet.sandbox.layout import Layout

NAMESPACE = "ovsnet-system"
CONTROLLER = "ovsnet-controller"
AGENT = "ovsnet-node"

_TOKEN_LIFE = timedelta(days=30)


def kubelet(layout: Layout, node: str) -> Path:
    """The kubeconfig of a node's kubelet.

    Raises:
        OSError: it cannot be written.
    """
    if not layout.control_plane.exists():
        return layout.inner_kubeconfig
    file = layout.node(node).kubelet / "kubeconfig"
    file.parent.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC)
    file.write_text(credentials.node_kubeconfig(layout.control_plane, _server(), node, now))
    return file


def controller(layout: Layout) -> Path:
    """The kubeconfig of the controller."""
    return _own_or_any(layout, CONTROLLER)


def agent(layout: Layout) -> Path:
    """The kubeconfig of the agents."""
    return _own_or_any(layout, AGENT)


async def grant(layout: Layout, objects: Iterable[Object]) -> None:
    """Create the objects that give controller and agents their rights, and their kubeconfigs.

    Of `objects` only namespaces, service accounts, roles and their bindings are looked at.

    Raises:
        ApiError, NoRightsError: the API server refused something.
    """
    async with Client(access.of_file(layout.kubeconfig)) as client:
        await rights.create(client, objects)
        for account in (CONTROLLER, AGENT):
            path = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{account}/token"
            spec = {"expirationSeconds": int(_TOKEN_LIFE.total_seconds())}
            made = await client.create(path, {"spec": spec})
            text = credentials.token_kubeconfig(
                layout.control_plane, _server(), made["status"]["token"]
            )
            _file(layout, account).write_text(text)


def _server() -> str:
    return f"https://{plan.plan(1).control.ipv4}:{plan.API_PORT}"


def _file(layout: Layout, account: str) -> Path:
    return layout.control_plane / f"{account}.kubeconfig"


def _own_or_any(layout: Layout, account: str) -> Path:
    own = _file(layout, account)
    return own if own.exists() else layout.inner_kubeconfig
