"""Deletes pairs of removed pods in the background, many at a time.

Deleting a link waits for the kernel's readers, 16 ms for one link or for all links of a group.
When DEL returns, the port is off the bridge and the address held back; that the pair goes a
moment later harms nobody. Its record stays until then, so a killed agent takes up where it was.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence

from ovsnet import logs
from ovsnet.cni.record import Record

_log = logs.get("removal")
_MOST_AT_ONCE = 256


class Remover:
    """A thread that calls `finish` with all the records that have come in meanwhile."""

    def __init__(self, finish: Callable[[Sequence[Record]], None]) -> None:
        self._finish = finish
        self._records: queue.SimpleQueue[Record | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="remover", daemon=True)
        self._thread.start()

    def submit(self, record: Record) -> None:
        """Finish the removal of a record whose port is off the bridge."""
        self._records.put(record)

    def stop(self) -> None:
        """Finish what is waiting and end the thread."""
        self._records.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (first := self._records.get()) is not None:
            batch = [first]
            stop = False
            while len(batch) < _MOST_AT_ONCE and not stop:
                try:
                    record = self._records.get_nowait()
                except queue.Empty:
                    break
                if record is None:
                    stop = True
                else:
                    batch.append(record)
            try:
                self._finish(batch)
            except Exception as error:
                # The records stay; the next round of housekeeping tries again.
                _log.error(
                    "removal is not complete yet", ports=[r.port for r in batch], error=error
                )
            if stop:
                return
