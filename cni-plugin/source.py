"""Where the agent learns its node's ranges from, and what it learned last."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from ovsnet import logs
from ovsnet.cni.ranges import NodeRanges

_log = logs.get("source")


class NodeSource(Protocol):
    """Tells the node's ranges."""

    def ranges(self) -> NodeRanges | None:
        """The ranges as last heard, or None if they are not known."""

    def start(self, changed: Callable[[], None]) -> None:
        """Begin to listen; `changed` is called, in any thread, when there is news."""

    def stop(self) -> None:
        """Listen no more."""


class FixedSource:
    """Ranges that the configuration gives."""

    def __init__(self, ranges: NodeRanges) -> None:
        self._ranges = ranges

    def ranges(self) -> NodeRanges | None:
        """The configured ranges."""
        return self._ranges

    def start(self, changed: Callable[[], None]) -> None:
        """Nothing ever changes."""

    def stop(self) -> None:
        """There is nothing to stop."""


class Watch(Protocol):
    """A running look at the API server."""

    def start(self) -> None:
        """Begin."""

    def stop(self) -> None:
        """End."""


class WatchedSource:
    """Ranges of the Node object, which a watch hands in; remembered over restarts in a file.

    A node whose API server is away when the agent starts goes on with what it had: ranges do not
    change in a Node's life.
    """

    def __init__(
        self,
        node: str,
        memory: Path,
        watch: Callable[[Callable[[Sequence[str] | None], None]], Watch],
    ) -> None:
        """`watch` makes, not yet started, what calls its argument with each new podCIDRs."""
        self._node = node
        self._memory = memory
        self._lock = threading.Lock()
        self._ranges = self._remembered()
        self._changed: Callable[[], None] = lambda: None
        self._watch = watch(self._heard)

    def ranges(self) -> NodeRanges | None:
        """The Node's ranges as last heard, before that as remembered."""
        with self._lock:
            return self._ranges

    def start(self, changed: Callable[[], None]) -> None:
        """Begin to watch."""
        self._changed = changed
        self._watch.start()

    def stop(self) -> None:
        """End the watch."""
        self._watch.stop()

    def _remembered(self) -> NodeRanges | None:
        with contextlib.suppress(OSError, ValueError):
            return NodeRanges.of(self._memory.read_text().split())
        return None

    def _heard(self, cidrs: Sequence[str] | None) -> None:
        """What the API says: None if there is no such Node, empty if it has no ranges yet."""
        try:
            new = NodeRanges.of(cidrs) if cidrs else None
        except ValueError as error:
            _log.error("the Node's podCIDRs cannot be used", node=self._node, reason=error)
            return
        with self._lock:
            old, self._ranges = self._ranges, new
        if old == new:
            return
        _log.info("the node's ranges", node=self._node, ranges=new.text if new else "none yet")
        if old is not None and new is not None:
            _log.warning(
                "the node's ranges changed: pods with addresses of the old ones must be restarted",
                node=self._node,
                old=old.text,
                new=new.text,
            )
        if new is not None:
            self._memory.parent.mkdir(parents=True, exist_ok=True)
            self._memory.write_text("\n".join(new.text.split(",")) + "\n")
        self._changed()
