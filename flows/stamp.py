"""The stamp: one flow that says which set of flows a switch holds.

It goes in as the last message of every bundle. A controller that comes back reads it and knows
at once whether there is anything to do.
"""

from __future__ import annotations

from ovsnet.flows.flow import Flow
from ovsnet.names import Table

STAMP_KEY = (Table.STAMP, 0, ())
"""Key of the one flow in the table that no packet reaches."""


def stamp_flow(digest: int) -> Flow:
    """The flow that carries the digest of all others as its cookie. Drops; matches no packet."""
    return Flow(Table.STAMP, 0, (), (), digest)
