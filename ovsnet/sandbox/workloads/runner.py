"""Carries out what the controllers plan, as writes come in."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Sequence

from ovsnet.sandbox.apiserver.deletion import Deletion
from ovsnet.sandbox.apiserver.kinds import EVENT, KINDS, Kind
from ovsnet.sandbox.apiserver.patch.merge_patch import apply_merge_patch
from ovsnet.sandbox.apiserver.registry import Registry, Write, timestamp
from ovsnet.sandbox.apiserver.status import ApiError
from ovsnet.sandbox.apiserver.store import Change
from ovsnet.sandbox.workloads.actions import Action, Bind, Create, Delete, Patch, Record
from ovsnet.sandbox.workloads.controllers import Controller
from ovsnet.sandbox.workloads.view import Reference, View

log = logging.getLogger(__name__)

_MANAGER = "kube-controller-manager"
_BATCH = 50
"""Most actions for one object before others, and requests, get their turn."""

_PERIOD = 1.0
"""Seconds between looks at what time alone may have changed, and at what was refused."""


def carry_out(registry: Registry, action: Action) -> None:
    """Do one thing. Raises ApiError if it is refused."""
    write = Write(manager=_MANAGER)
    match action:
        case Create(kind, namespace, obj):
            registry.create(kind, namespace, obj, write)
        case Delete(kind, key, uid, grace, propagation):
            registry.delete(kind, key, Deletion(grace, uid, None, propagation), write)
        case Patch(kind, key, patch, subresource):
            registry.change(
                kind, key, lambda obj: apply_merge_patch(obj, patch), write, subresource
            )
        case Bind(key, node):
            registry.bind(key, node, write)
        case Record():
            _record(registry, action, write)


def _record(registry: Registry, record: Record, write: Write) -> None:
    namespace = record.key[0] or "default"
    now = timestamp(registry.sources.now())
    event = {
        "metadata": {
            "name": f"{record.key[1][:230]}.{registry.sources.suffix(16)}",
            "namespace": namespace,
        },
        "involvedObject": {
            "apiVersion": record.kind.api_version,
            "kind": record.kind.kind,
            "name": record.key[1],
            "uid": record.uid,
        }
        | ({"namespace": namespace} if record.key[0] else {}),
        "reason": record.reason,
        "message": record.message,
        "type": record.type,
        "source": {"component": record.component},
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
        "reportingComponent": record.component,
    }
    registry.create(EVENT, namespace, event, write)


class Runner:
    """The controllers at work on one registry. Lives on the registry's own thread."""

    def __init__(self, registry: Registry, controllers: Sequence[Controller]) -> None:
        self._registry = registry
        self._controllers = {controller.name: controller for controller in controllers}
        self._view = View(registry.store, KINDS)
        self._queue: dict[tuple[str, Reference], None] = {}
        self._refused: dict[tuple[str, Reference], None] = {}
        self._work = asyncio.Event()
        registry.store.subscribe(self._observe)

    def _observe(self, kind: Kind, change: Change) -> None:
        self._view.observe(kind, change)
        for controller in self._controllers.values():
            for reference in controller.concerned(self._view, kind, change):
                self._enqueue(controller.name, reference)

    def _enqueue(self, name: str, reference: Reference) -> None:
        self._queue[name, reference] = None
        self._work.set()

    async def run(self) -> None:
        """Work until cancelled."""
        self.start()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._tick())
            tasks.create_task(self._drain())

    def start(self) -> None:
        """Look at everything that is there."""
        for kind in KINDS:
            for item in self._registry.store[kind].items():
                change = Change(item.revision, None, item, deleted=False)
                for controller in self._controllers.values():
                    for reference in controller.concerned(self._view, kind, change):
                        self._enqueue(controller.name, reference)

    def look_again(self) -> None:
        """Look at what time alone may have changed, and at what was refused."""
        refused, self._refused = self._refused, {}
        self._queue |= refused
        for controller in self._controllers.values():
            if controller.periodic is not None:
                for key in self._view.keys(controller.periodic):
                    self._enqueue(controller.name, (controller.periodic, key))
        if self._queue:
            self._work.set()

    def work(self) -> bool:
        """Plan for the object that has waited longest, and do it; False if none waits."""
        if not self._queue:
            return False
        name, reference = next(iter(self._queue))
        del self._queue[name, reference]
        self._plan_and_do(name, reference)
        return True

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_PERIOD)
            self.look_again()

    async def _drain(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            while self.work():
                # Requests get their turn between any two objects.
                await asyncio.sleep(0)

    def _plan_and_do(self, name: str, reference: Reference) -> None:
        try:
            actions = self._controllers[name].plan(
                self._view, reference, self._registry.sources.now()
            )
        except Exception:
            log.exception("planning failed controller=%s object=%s", name, reference[1])
            return
        if len(actions) > _BATCH:
            self._enqueue(name, reference)
        for action in actions[:_BATCH]:
            try:
                carry_out(self._registry, action)
            except ApiError as error:
                log.info("refused controller=%s object=%s why=%s", name, reference[1], error)
                self._refused[name, reference] = None
                return


def only(controllers: Sequence[Controller], names: Collection[str]) -> tuple[Controller, ...]:
    """Those of the controllers that are named. Raises ValueError for a name that is none's."""
    known = {controller.name for controller in controllers}
    unknown = set(names) - known
    if unknown:
        raise ValueError(f"no such controllers: {sorted(unknown)}; there are {sorted(known)}")
    return tuple(controller for controller in controllers if controller.name in names)
