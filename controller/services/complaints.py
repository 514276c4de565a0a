"""What of services is not done, as complaints about the objects that say it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from ovsnet.controller.complaints import SERVICE, SLICE, Complaint, unknown_sctp
from ovsnet.controller.services.objections import Objection
from ovsnet.model import Protocol, Service


def service_complaints(objections: Iterable[Objection]) -> Iterator[Complaint]:
    """The objections, about a slice where it is one that is wrong."""
    for each in objections:
        if each.part is None:
            yield Complaint(*each.service, SERVICE, each.uid, each.field, each.reason)
        else:
            yield Complaint(*each.part, SLICE, each.part_uid, each.field, each.reason)


def has_sctp(service: Service) -> bool:
    """Whether a service has an address and a port of SCTP."""
    return bool(service.addresses) and any(p.protocol is Protocol.SCTP for p in service.ports)


def sctp_service_complaints(
    services: Iterable[Service], userspace: Collection[str]
) -> Iterator[Complaint]:
    """About services that have ports of SCTP, if there are nodes with a `userspace` datapath."""
    if not userspace:
        return
    reason = f"{unknown_sctp(userspace)}; connections to them are not translated as they should be"
    for service in services:
        yield Complaint(*service.ref, SERVICE, service.uid, "spec.ports", reason)
