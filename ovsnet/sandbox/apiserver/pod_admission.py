"""What a new pod gets and needs from what else there is: its priority, and its account.

The rules of the admission controllers Priority and ServiceAccount (reference "Admission
Controllers"). The account `default` is taken to be in every namespace, and pods get no volume with
a token: no container would read it.
"""

from __future__ import annotations

from ovsnet.sandbox.apiserver.kinds import POD, PRIORITY_CLASS, SERVICE_ACCOUNT, Object
from ovsnet.sandbox.apiserver.status import forbidden
from ovsnet.sandbox.apiserver.store import Store


def admit(pod: Object, store: Store) -> None:
    """Complete a new pod in place. Raises ApiError (403)."""
    _prioritize(pod, store)
    metadata, account = pod["metadata"], pod["spec"].get("serviceAccountName", "default")
    key = (metadata["namespace"], account)
    if account != "default" and store[SERVICE_ACCOUNT].get(key) is None:
        why = (
            f"error looking up service account {key[0]}/{account}: "
            f'serviceaccount "{account}" not found'
        )
        raise forbidden(POD, metadata.get("name", ""), why)


def _prioritize(pod: Object, store: Store) -> None:
    spec, name = pod["spec"], pod["metadata"].get("name", "")
    value, wanted = 0, spec.get("priorityClassName")
    if wanted:
        found = store[PRIORITY_CLASS].get(("", wanted))
        if found is None:
            raise forbidden(POD, name, f"no PriorityClass with name {wanted} was found")
        given = found.decode()
        value, spec["preemptionPolicy"] = given["value"], given["preemptionPolicy"]
    if spec.setdefault("priority", value) != value:
        why = (
            f"the integer value of priority ({spec['priority']}) must not be provided in pod "
            f"spec; priority admission controller computed {value} from the given PriorityClass "
            "name"
        )
        raise forbidden(POD, name, why)
