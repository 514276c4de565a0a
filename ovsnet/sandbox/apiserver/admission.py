"""What a server adds to an object before it stores it, from what else it has stored."""

from __future__ import annotations

from collections.abc import Sequence

from ovsnet.sandbox.apiserver import pod_admission, service_fields, services
from ovsnet.sandbox.apiserver.kinds import POD, SERVICE, Kind, Object
from ovsnet.sandbox.apiserver.status import Cause
from ovsnet.sandbox.apiserver.store import Store


class Admission:
    """Gives objects what the cluster has: services addresses and node ports, pods a priority."""

    def __init__(self, store: Store, service_ranges: Sequence[services.ServiceRange]) -> None:
        self._store = store
        self._ranges = services.by_family(service_ranges)
        self._allocations = services.Allocations()
        store.subscribe(self._allocations.observe)

    def complete(self, kind: Kind, obj: Object, old: Object | None) -> None:
        """Make an object's fields agree, in place, before they are looked at.

        Raises ApiError (403) where it asks for what is not there.
        """
        if kind is SERVICE:
            service_fields.complete(obj, old)
        elif kind is POD and old is None:
            pod_admission.admit(obj, self._store)

    def prepare(self, kind: Kind, obj: Object, old: Object | None) -> list[Cause]:
        """Allocate what an object needs, in place; the causes if it cannot be admitted.

        Nothing is reserved by this: what an object holds counts once it is stored.
        """
        if kind is SERVICE:
            return services.prepare(obj, old, self._ranges, self._allocations)
        return []
