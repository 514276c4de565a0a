"""What else is to be known of what somebody asks about."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ovsnet.controller.inquiry.cases import Case
from ovsnet.controller.inquiry.world import Snapshot
from ovsnet.model import ServiceRef
from ovsnet.services.world import Whence

_MOST_OBJECTIONS: Final = 5


def remarks(seen: Snapshot, about: Case) -> Iterator[str]:
    """What is to be known of the ends, and why there are no answers if there are none."""
    source, destination = about.source, about.destination
    yield from source.remarks
    yield from destination.remarks if destination != source else ()
    if about.to_itself:
        yield "a pod speaks to itself without any switch"
    elif source.addresses and destination.addresses and not about.families:
        yield f"{source.name} and {destination.name} have no address family in common"
    yield from dict.fromkeys(_ways_in(seen, about))
    for ref in dict.fromkeys([destination.service, *(made.taken.service for made in about.calls)]):
        if ref is not None:
            yield from _objections(seen, ref)


def _objections(seen: Snapshot, ref: ServiceRef) -> Iterator[str]:
    """What of a service is not served."""
    wrong = [each for each in seen.objections if each.service == ref]
    for each in wrong[:_MOST_OBJECTIONS]:
        part = "" if each.part is None else f", slice {each.part}"
        yield f"service {ref}{part}: {each.field}: {each.reason}"
    if len(wrong) > _MOST_OBJECTIONS:
        yield f"service {ref}: {len(wrong) - _MOST_OBJECTIONS} more of its parts are not served"


def _ways_in(seen: Snapshot, about: Case) -> Iterator[str]:
    """By which node somebody outside calls, where it might be any."""
    own = {address for view in seen.nodes.values() for address in view.node.addresses}
    for made in about.calls:
        client = made.call.client
        if client.whence is Whence.OUTSIDE and made.call.destination not in own:
            yield f"{about.source.name} may come in by any node: here it is {client.node}"
