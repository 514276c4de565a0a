"""Where a pod or node of a running sandbox lives, to run a command there."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import msgspec

from ovsnet.sandbox import netns, node
from ovsnet.sandbox.kubelet.sandboxes import Stage, Store
from ovsnet.sandbox.layout import Layout
from ovsnet.sandbox.state import State

NOT_FOUND = 127
"""Exit status of a shell for a command that does not exist (POSIX, 2.8.2)."""

NOT_EXECUTABLE = 126
"""Exit status of a shell for a command that cannot be executed."""


class NoSuchPodError(Exception):
    """There is no such pod, or it is not running yet."""


class Place(msgspec.Struct, frozen=True):
    """A network namespace, and the variables that a command in it should have besides."""

    netns: Path
    environment: dict[str, str]


def of_node(layout: Layout, state: State, name: str) -> Place:
    """A node: Open vSwitch's programs find its switch, and kubectl the API server.

    Raises:
        NotRunningError: there is no such node.
    """
    found = state.node(name)
    return Place(
        Path(found.netns),
        {
            **node.ovs_environment(Path(found.ovs_rundir)),
            "KUBECONFIG": str(layout.inner_kubeconfig),
            "NODE_NAME": name,
        },
    )


def of_pod(layout: Layout, state: State, namespace: str, name: str) -> Place:
    """A pod; one with hostNetwork lives where its node lives.

    Raises:
        NoSuchPodError: there is none, or it has no sandbox yet.
    """
    sandboxes = [
        sandbox
        for each in state.nodes
        for sandbox in Store(layout.node(each.name).kubelet).all()
        if (sandbox.target.namespace, sandbox.target.pod) == (namespace, name)
        and sandbox.stage is Stage.READY
        and netns.exists(Path(sandbox.target.netns))
    ]
    if sandboxes:
        # A pod of the same name that was deleted by force may not be gone yet: the newest is meant.
        newest = max(sandboxes, key=lambda each: each.started)
        return Place(Path(newest.target.netns), {})
    return Place(Path(state.node(_host_network_node(layout, namespace, name)).netns), {})


def _host_network_node(layout: Layout, namespace: str, name: str) -> str:
    """The node that a pod with hostNetwork runs on."""
    # These take longer to import than all the rest of `exec` takes, which seldom needs them.
    import asyncio  # noqa: PLC0415

    from ovsnet.sandbox import access, client  # noqa: PLC0415

    async def ask() -> client.Object:
        async with client.Client(access.of_file(layout.kubeconfig)) as api:
            return await api.get(f"/api/v1/namespaces/{namespace}/pods/{name}")

    try:
        pod = asyncio.run(ask())
    except (client.ApiError, access.KubeconfigError, *client.UNREACHABLE) as error:
        raise NoSuchPodError(f"{namespace}/{name}: {error}") from error
    host = pod["spec"].get("nodeName")
    if not host or not pod["spec"].get("hostNetwork"):
        phase = pod.get("status", {}).get("phase", "Pending")
        raise NoSuchPodError(f"{namespace}/{name} has no network yet; its phase is {phase}")
    return str(host)


def run(
    place: Place, command: Sequence[str], environment: Mapping[str, str] = os.environ
) -> NoReturn:
    """Become `command` in that place.

    Raises:
        FileNotFoundError, PermissionError: it cannot be executed.
    """
    netns.enter(place.netns)
    os.execvpe(command[0], list(command), {**environment, **place.environment})
