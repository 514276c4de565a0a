"""Flows that the switch itself writes: which client had which endpoint.

They stand in the table `affinity` and nowhere else. They are nobody's desired flows: no ledger, no
digest and no comparison knows them.
"""

from __future__ import annotations

from typing import Final

from ovsnet.flows.flow import OwnerKind

LEARNT_COOKIE: Final = OwnerKind.LEARNT << 56
"""The cookie of all of them."""

MOST_LEARNT: Final = 10_000
"""Clients that one switch remembers at most; beyond that, affinity is not kept for new ones. The
switch counts them whenever it learns one, which takes a millisecond or two for so many.
"""
