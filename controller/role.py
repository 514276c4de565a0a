"""Which role one switch gives us: its only writer's (MASTER), or that of one who hears of its ports
and can write nothing (SLAVE). OpenFlow 1.5.1, 6.3.5.

A connection begins with the role EQUAL, in which a switch takes whatever it is sent. Who stands by
asks for SLAVE all the same: then it is the switch that refuses what a fault would write. A role
comes with a generation id, and also that of a slave must not be older than the switch's, nor newer,
or it would fence the leader off. So a switch is first asked which one it has seen.

Like the session that it belongs to it does no input or output and keeps no clock.
"""

from __future__ import annotations

from collections.abc import Callable

from ovsnet.controller.notices import Send
from ovsnet.controller.openflow import encode
from ovsnet.controller.openflow.events import RoleGranted
from ovsnet.controller.openflow.protocol import FIRST_XID, ControllerRole


class Role:
    """The questions of one session about its role. `generation` is the term of our leadership,
    None while we stand by; `next_xid` and `send` are the session's.
    """

    def __init__(
        self, generation: int | None, next_xid: Callable[[], int], send: Callable[[bytes], Send]
    ) -> None:
        self.generation = generation
        self.seen = 0
        """The greatest generation id that the switch had seen when it was asked."""
        self._next_xid = next_xid
        self._send = send
        self._looking = self._question = FIRST_XID

    @property
    def wanted(self) -> ControllerRole:
        """The role that we ask for."""
        return ControllerRole.SLAVE if self.generation is None else ControllerRole.MASTER

    def ask(self) -> list[Send]:
        """Ask from the beginning. Who leads asks for both at once."""
        self._looking = self._question = self._next_xid()
        look = self._send(encode.role_request(self._looking, 0, ControllerRole.NOCHANGE))
        return [look] if self.generation is None else [look, self._ask(self.generation)]

    def lead(self, generation: int) -> list[Send]:
        """Ask to be master under this term, whatever we were before."""
        self.generation = generation
        return [self._ask(generation)]

    def asked(self, xid: int) -> bool:
        """Whether an answer with this transaction id is to the last question."""
        return xid == self._question

    def granted(self, event: RoleGranted) -> tuple[ControllerRole | None, list[Send]]:
        """The role that an answer gives us, if it is to the last question, and what to ask next."""
        if event.xid == self._looking:
            self.seen = event.generation
            waits = self.generation is None and self.asked(event.xid)
            return None, [self._ask(event.generation)] if waits else []
        return (event.role, []) if self.asked(event.xid) else (None, [])

    def _ask(self, generation: int) -> Send:
        self._question = self._next_xid()
        return self._send(encode.role_request(self._question, generation, self.wanted))
