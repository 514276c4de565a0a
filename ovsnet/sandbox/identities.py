"""As whom each part of a sandbox speaks to the API server.

The embedded one asks nobody who they are. Kubernetes' own knows every part by a kubeconfig that is
its alone, and lets it do no more than it may in any cluster.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from ovsnet.sandbox import plan
from ovsnet.sandbox.controlplane import credentials
from ovsnet.sandbox.layout import Layout


def kubelet(layout: Layout, node: str) -> Path:
    """The kubeconfig of a node's kubelet.

    Raises:
        OSError: it cannot be written.
    """
    if not layout.control_plane.exists():
        return layout.inner_kubeconfig
    file = layout.node(node).kubelet / "kubeconfig"
    file.parent.mkdir(parents=True, exist_ok=True)
    server = f"https://{plan.plan(1).control.ipv4}:{plan.API_PORT}"
    now = datetime.now(UTC)
    file.write_text(credentials.node_kubeconfig(layout.control_plane, server, node, now))
    return file
