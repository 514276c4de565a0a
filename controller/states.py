"""The states of the session with one switch, what leads from one to the next, and how long it
waits in them.

    STANDING_BY ◄──slave── ASKING_ROLE ◄─lead()─ STANDING_BY
                                │ master
                             WAITING ──desire()──► READING_STAMP ──equal──────────────┐
                                                        │ unequal                     │
                                                        ▼                             ▼
                 ┌──────────────────────────────► LISTING ──no difference──────► STEADY ◄─┐
                 │                                      │ difference              │ change │
              BACKING_OFF ◄──refused── FILLING ◄────────┴─────────────────────────┘        │
                 ▲                        │ closed                                         │
                 └───────refused── COMMITTING ──committed───────────────────────────────────┘

Any state ends in ENDED: when the connection is lost, the switch stays silent or says what makes
no sense, or another controller leads it. Who leads no more ends its sessions; the switch connects
again, and nothing that was on its way is left of the old one.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

import msgspec


class State(Enum):
    """Where a session stands; the module's text has the whole picture."""

    ASKING_ROLE = auto()
    STANDING_BY = auto()
    WAITING = auto()
    READING_STAMP = auto()
    LISTING = auto()
    STEADY = auto()
    FILLING = auto()
    COMMITTING = auto()
    BACKING_OFF = auto()
    ENDED = auto()


SERVING: Final = frozenset({State.STEADY, State.FILLING, State.COMMITTING})
"""The switch has had what was desired, and every change is brought to it."""

ASKING: Final = frozenset(
    {State.ASKING_ROLE, State.READING_STAMP, State.LISTING, State.FILLING, State.COMMITTING}
)
"""An answer of the switch leads on, and has to come within `Timing.answer`."""


class Timing(msgspec.Struct, frozen=True):
    """How long a session waits, in seconds.

    After `quiet` of silence it asks for a sign of life; after `dead` the switch is given up. An
    answer may take `answer`. Flows are compared every `audit`, drops counted every `counters`. A
    refused bundle is tried anew after `retry`, then twice as long each time up to `retry_most`.
    """

    quiet: float = 5.0
    dead: float = 20.0
    answer: float = 60.0
    audit: float = 300.0
    counters: float = 10.0
    retry: float = 1.0
    retry_most: float = 60.0
