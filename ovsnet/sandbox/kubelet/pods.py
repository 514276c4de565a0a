"""The pods of one node: each has a task that brings its sandbox to what the API wants of it."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from ovsnet import logs
from ovsnet.sandbox import netns
from ovsnet.sandbox.client import UNREACHABLE, ApiError, Changed, Client, Deleted, Event, Listed
from ovsnet.sandbox.kubelet import status
from ovsnet.sandbox.kubelet.conflist import ConflistError
from ovsnet.sandbox.kubelet.responders import Identity, Responders, declared_ports
from ovsnet.sandbox.kubelet.runtime import PluginError, Runtime
from ovsnet.sandbox.kubelet.sandboxes import Sandbox, Stage, Store, Target
from ovsnet.sandbox.kubelet.status import Object

AT_ONCE = 8
"""How many plugin executions run side by side."""

_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 8.0
_GONE = (404, 409)
_ENDED = ("Succeeded", "Failed")
_ERRORS = (PluginError, ConflistError, OSError)

_log = logs.get("kubelet")


class Node(msgspec.Struct, frozen=True):
    """The node whose pods these are. Pod namespaces are called `netns_prefix`-SOMETHING."""

    name: str
    addresses: tuple[str, ...]
    netns_prefix: str


class Slots:
    """Room for so many plugin executions at once, or for one that must be alone."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._free = asyncio.Semaphore(count)
        self._alone = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Take one place."""
        async with self._free:
            yield

    @contextlib.asynccontextmanager
    async def all(self) -> AsyncIterator[None]:
        """Take every place, so that nothing else is being executed."""
        async with self._alone:
            taken = 0
            try:
                for _ in range(self._count):
                    await self._free.acquire()
                    taken += 1
                yield
            finally:
                for _ in range(taken):
                    self._free.release()


def wanted(pod: Object | None) -> bool:
    """Whether a pod should have a sandbox: it exists, is not being deleted and has not ended."""
    return (
        pod is not None
        and not pod["metadata"].get("deletionTimestamp")
        and pod.get("status", {}).get("phase") not in _ENDED
    )


def _uid(pod: Object) -> str:
    return str(pod["metadata"]["uid"])


def _path(pod: Object) -> str:
    metadata = pod["metadata"]
    return f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"


class Pods:
    """Follows the node's pods and keeps one worker per pod.

    `now` tells the time, `spawn` runs a coroutine as a task that is not lost.
    """

    def __init__(
        self,
        node: Node,
        client: Client,
        *,
        runtime: Runtime,
        store: Store,
        now: Callable[[], datetime],
        spawn: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        self._node = node
        self._client = client
        self._runtime = runtime
        self._store = store
        self._now = now
        self._spawn = spawn
        self._slots = Slots(AT_ONCE)
        self._latest: dict[str, Object] = {}
        self._workers: dict[str, asyncio.Event] = {}

    def handle(self, event: Event) -> None:
        """Take in what the API says. Sandboxes of pods that a list lacks are torn down."""
        match event:
            case Listed(items):
                self._latest = {_uid(pod): pod for pod in items}
                left = {sandbox.target.uid for sandbox in self._store.all()}
                for uid in left | set(self._latest) | set(self._workers):
                    self._wake(uid)
            case Changed(pod):
                self._latest[_uid(pod)] = pod
                self._wake(_uid(pod))
            case Deleted(pod):
                self._latest.pop(_uid(pod), None)
                self._wake(_uid(pod))

    def _wake(self, uid: str) -> None:
        if uid not in self._workers:
            self._workers[uid] = asyncio.Event()
            self._spawn(self._work(uid))
        self._workers[uid].set()

    async def collect_garbage(self) -> None:
        """Have the plugins drop whatever belongs to none of this node's sandboxes (CNI GC)."""
        async with self._slots.all():
            valid = [sandbox.target.container_id for sandbox in self._store.all()]
            await self._runtime.gc(valid)

    async def _work(self, uid: str) -> None:
        """One pod from first to last: set up, wait, tear down, report."""
        changed = self._workers[uid]
        responders: Responders | None = None
        pause = _FIRST_PAUSE
        try:
            while True:
                changed.clear()
                pod = self._latest.get(uid)
                try:
                    if pod is None or not wanted(pod):
                        if responders:
                            await responders.close()
                            responders = None
                        await self._remove_sandboxes(uid)
                        if pod is not None and pod["metadata"].get("deletionTimestamp"):
                            await self._finish(pod)
                        if not changed.is_set():
                            return
                        continue
                    if responders is None:
                        responders = await self._start(pod)
                        pause = _FIRST_PAUSE
                except _ERRORS as error:
                    _log.warning("pod not in its state yet", uid=uid, error=error)
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(changed.wait(), pause)
                    pause = min(pause * 2, _LONGEST_PAUSE)
                    continue
                await changed.wait()
        finally:
            del self._workers[uid]
            if responders:
                await responders.close()

    async def _start(self, pod: Object) -> Responders:
        """Bring a pod up, on the sandbox that it has from before if there is one."""
        metadata = pod["metadata"]
        responders = Responders(Identity(metadata["namespace"], metadata["name"], self._node.name))
        try:
            await self._open(pod, responders)
        except BaseException:
            await responders.close()
            raise
        return responders

    async def _open(self, pod: Object, responders: Responders) -> None:
        if pod["spec"].get("hostNetwork"):
            await responders.open(declared_ports(pod), None)
            started = status.timestamp(self._now())
            addresses, container = self._node.addresses, secrets.token_hex(32)
        else:
            sandbox = await self._sandbox(pod)
            assert sandbox.result is not None, "a ready sandbox has a result"
            await responders.open(declared_ports(pod), Path(sandbox.target.netns))
            started = sandbox.started
            addresses = status.addresses_of(sandbox.result)
            container = sandbox.target.container_id
        for problem in responders.problems:
            _log.warning("port not answered", pod=_path(pod), problem=problem)
            self._tell(pod, "Warning", "PortNotAnswered", problem)
        report = status.running(
            pod, addresses, self._node.addresses, container_id=container, started=started
        )
        await self._report(pod, report)
        self._tell(pod, "Normal", "Started", "Pod is running")

    async def _sandbox(self, pod: Object) -> Sandbox:
        """The pod's sandbox: the one that a kubelet before this one made, or a new one.

        Raises:
            PluginError, ConflistError, OSError: it cannot be made now; nothing of it is left.
        """
        for sandbox in self._store.of_pod(_uid(pod)):
            if sandbox.stage is Stage.READY and netns.exists(Path(sandbox.target.netns)):
                await self._check(pod, sandbox)
                return sandbox
            # It was being made or taken down when the kubelet ended.
            await self._remove(sandbox)
        if not pod.get("status", {}).get("startTime"):
            now = status.timestamp(self._now())
            await self._report(pod, status.waiting(pod, self._node.addresses, now))
        async with self._slots.one():
            return await self._create(pod)

    async def _create(self, pod: Object) -> Sandbox:
        container_id = secrets.token_hex(32)
        target = Target(
            container_id=container_id,
            netns=f"{self._node.netns_prefix}-{container_id[:12]}",
            namespace=pod["metadata"]["namespace"],
            pod=pod["metadata"]["name"],
            uid=_uid(pod),
        )
        capabilities = status.capabilities_of(pod)
        sandbox = Sandbox(
            target, Stage.CREATING, status.timestamp(self._now()), capabilities=capabilities
        )
        self._store.save(sandbox)
        try:
            await asyncio.to_thread(netns.create, Path(target.netns))
            result = await self._runtime.add(target, capabilities)
        except BaseException as error:
            self._tell(
                pod,
                "Warning",
                "FailedCreatePodSandBox",
                f"Failed to create pod sandbox: plugin failed to set up network: {error}",
            )
            # The record stays if this fails too, and the next attempt begins with it.
            await self._dismantle(sandbox)
            raise
        sandbox = msgspec.structs.replace(sandbox, stage=Stage.READY, result=result)
        self._store.save(sandbox)
        if "portMappings" in capabilities and not self._runtime.network().declares("portMappings"):
            self._tell(
                pod, "Warning", "HostPortNotMapped", "no plugin of the network maps host ports"
            )
        return sandbox

    async def _check(self, pod: Object, sandbox: Sandbox) -> None:
        """Let the plugins look at a sandbox that was taken over; what they find is reported."""
        assert sandbox.result is not None, "a ready sandbox has a result"
        try:
            async with self._slots.one():
                await self._runtime.check(sandbox.target, sandbox.result, sandbox.capabilities)
        except (PluginError, ConflistError) as error:
            _log.warning("check failed", pod=_path(pod), error=error)
            self._tell(pod, "Warning", "NetworkCheckFailed", str(error))

    async def _remove_sandboxes(self, uid: str) -> None:
        for sandbox in self._store.of_pod(uid):
            await self._remove(sandbox)

    async def _remove(self, sandbox: Sandbox) -> None:
        async with self._slots.one():
            await self._dismantle(sandbox)

    async def _dismantle(self, sandbox: Sandbox) -> None:
        await self._runtime.delete(sandbox.target, sandbox.result, sandbox.capabilities)
        await asyncio.to_thread(netns.delete, Path(sandbox.target.netns))
        self._store.remove(sandbox)

    async def _finish(self, pod: Object) -> None:
        """Take a pod that has ended out of the API."""
        await self._persist(lambda: self._client.delete(_path(pod), _uid(pod), 0))

    async def _report(self, pod: Object, report: Object) -> None:
        await self._persist(lambda: self._client.patch_status(_path(pod), report, _uid(pod)))

    async def _persist(self, request: Callable[[], Coroutine[Any, Any, Object]]) -> None:
        """Make a request until the server takes it; a pod that is gone needs none."""
        pause = _FIRST_PAUSE
        while True:
            try:
                await request()
                return
            except ApiError as error:
                if error.status in _GONE:
                    return
                _log.warning("API request refused", error=error)
            except UNREACHABLE as error:
                _log.warning("API server unreachable", error=error)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _tell(self, pod: Object, kind: str, reason: str, message: str) -> None:
        metadata = pod["metadata"]
        body = status.event(
            pod,
            self._node.name,
            name=f"{metadata['name']}.{secrets.token_hex(8)}",
            kind=kind,
            reason=reason,
            message=message,
            now=status.timestamp(self._now()),
        )
        self._spawn(self._send_event(body))

    async def _send_event(self, body: Object) -> None:
        """Send an event once; an event that is lost is no harm."""
        namespace = body["metadata"]["namespace"]
        try:
            await self._client.create(f"/api/v1/namespaces/{namespace}/events", body)
        except (ApiError, *UNREACHABLE) as error:
            _log.debug("event not recorded", reason=body["reason"], error=error)
