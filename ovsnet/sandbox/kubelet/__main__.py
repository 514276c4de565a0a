"""The kubelet stand-in's process: `python -m ovsnet.sandbox.kubelet`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import signal
import sys
from collections.abc import Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from ovsnet import logs
from ovsnet.sandbox import access
from ovsnet.sandbox.access import Access, KubeconfigError
from ovsnet.sandbox.client import UNREACHABLE, ApiError, Client
from ovsnet.sandbox.kubelet import status
from ovsnet.sandbox.kubelet.conflist import ConflistError
from ovsnet.sandbox.kubelet.pods import Node, Pods
from ovsnet.sandbox.kubelet.runtime import PluginError, Runtime
from ovsnet.sandbox.kubelet.sandboxes import Store

_NOT_READY_PERIOD = 0.1
_READY_PERIOD = 5.0
_GC_PERIOD = 60.0
_LEASE_PERIOD = 10.0
_RETRY_SECONDS = 0.2
_ALREADY_EXISTS = 409
_NOT_FOUND = 404
_GO_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}

_log = logs.get("kubelet")


class Tasks:
    """Runs coroutines beside each other and keeps hold of them until they are done."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine; should it fail, the log says so."""
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()):
            _log.error("task failed", error=error)

    async def cancel(self) -> None:
        """Stop all and wait until they have."""
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def _machine() -> status.Machine:
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    name = platform.machine()
    return status.Machine(_GO_ARCHITECTURES.get(name, name), os.cpu_count() or 1, pages // 1024)


async def _register(client: Client, node: Node) -> None:
    """Create the Node, or bring the one that is there up to date, as soon as the API answers."""
    body = status.node(node.name, node.addresses, _machine())
    while True:
        try:
            try:
                await client.create("/api/v1/nodes", body)
            except ApiError as error:
                if error.status != _ALREADY_EXISTS:
                    raise
                await client.patch_status(f"/api/v1/nodes/{node.name}", body["status"])
            return
        except (ApiError, *UNREACHABLE) as error:
            _log.warning("node not registered yet", node=node.name, error=error)
            await asyncio.sleep(_RETRY_SECONDS)


async def _fault(runtime: Runtime) -> str | None:
    """Why the node's network is not ready; None if it is."""
    try:
        await runtime.status()
    except (ConflistError, PluginError) as error:
        return str(error)
    return None


async def _watch_readiness(client: Client, node: Node, runtime: Runtime) -> None:
    """Report whether the network is ready, whenever that changes."""
    reported: object = ()
    while True:
        fault = await _fault(runtime)
        if fault != reported:
            now = status.timestamp(datetime.now(UTC))
            try:
                report = status.node_ready(fault, now)
                await client.patch_status(f"/api/v1/nodes/{node.name}", report)
                reported = fault
                _log.info("node is ready" if fault is None else "node is not ready", fault=fault)
            except ApiError as error:
                _log.warning("node's status not reported", error=error)
                if error.status == _NOT_FOUND:
                    await _register(client, node)
            except UNREACHABLE as error:
                _log.warning("node's status not reported", error=error)
        await asyncio.sleep(_NOT_READY_PERIOD if fault or fault != reported else _READY_PERIOD)


async def _renew_lease(client: Client, node: str) -> None:
    """Say that this kubelet is alive; nobody else may judge the node while it does."""
    path = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
    while True:
        spec = status.lease(node, datetime.now(UTC))
        try:
            try:
                await client.merge(f"{path}/{node}", {"spec": spec})
            except ApiError as error:
                if error.status != _NOT_FOUND:
                    raise
                await client.create(path, {"metadata": {"name": node}, "spec": spec})
        except (ApiError, *UNREACHABLE) as error:
            _log.warning("lease not renewed", node=node, error=error)
        await asyncio.sleep(_LEASE_PERIOD)


async def _collect_garbage(pods: Pods) -> None:
    while True:
        await asyncio.sleep(_GC_PERIOD)
        try:
            await pods.collect_garbage()
        except (PluginError, ConflistError) as error:
            _log.warning("garbage collection failed", error=error)


async def _follow(client: Client, node: Node, pods: Pods) -> None:
    async for event in client.follow("/api/v1/pods", fieldSelector=f"spec.nodeName={node.name}"):
        pods.handle(event)


async def run(node: Node, way: Access, runtime: Runtime, store: Store) -> None:
    """Be the node's kubelet until SIGTERM or SIGINT. Pods stay as they are for the next one."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    tasks = Tasks()
    async with Client(way) as client:
        registration = asyncio.ensure_future(_register(client, node))
        stopping = asyncio.ensure_future(stop.wait())
        await asyncio.wait((registration, stopping), return_when=asyncio.FIRST_COMPLETED)
        if registration.done():
            pods = Pods(
                node,
                client,
                runtime=runtime,
                store=store,
                now=lambda: datetime.now(UTC),
                spawn=tasks.spawn,
            )
            tasks.spawn(_watch_readiness(client, node, runtime))
            tasks.spawn(_renew_lease(client, node.name))
            tasks.spawn(_follow(client, node, pods))
            tasks.spawn(_collect_garbage(pods))
            await stopping
        registration.cancel()
        await tasks.cancel()


@click.command()
@click.option("--node", required=True, help="Name of the node.")
@click.option("--address", required=True, multiple=True, help="An address of the node; repeat it.")
@click.option("--kubeconfig", required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--cni-conf-dir", required=True, type=click.Path(path_type=Path))
@click.option("--cni-bin-dir", required=True, type=click.Path(path_type=Path))
@click.option("--state-dir", required=True, type=click.Path(path_type=Path))
@click.option(
    "--netns-prefix",
    required=True,
    help="Path with which the names of the pods' network namespaces begin.",
)
def main(
    *,
    node: str,
    address: tuple[str, ...],
    kubeconfig: Path,
    cni_conf_dir: Path,
    cni_bin_dir: Path,
    state_dir: Path,
    netns_prefix: str,
) -> None:
    """Stand in for kubelet on one node of a sandbox, inside the node's network namespace."""
    logs.configure(sys.stderr)
    try:
        way = access.of_file(kubeconfig)
    except KubeconfigError as error:
        raise click.ClickException(str(error)) from error
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(
            run(
                Node(node, address, netns_prefix),
                way,
                Runtime(cni_conf_dir, cni_bin_dir),
                Store(state_dir),
            )
        )


if __name__ == "__main__":
    main()
