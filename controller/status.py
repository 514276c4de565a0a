"""The document that `GET /status` serves: what the controller knows and has done, node by node.

Times are UTC in RFC 3339. Programs may rely on the names here; more of them may come.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum

import msgspec


class Revision(msgspec.Struct, frozen=True):
    """Each change of a node's flows raises its revision by one.

    `acknowledged` is the last one that its switch has confirmed, `settled` the last one that is
    known to be in effect for every packet: nothing that the switch had cached before is used any
    more. Both are None before the first.
    """

    desired: int
    acknowledged: int | None = None
    settled: int | None = None

    @property
    def current(self) -> bool:
        """Whether the switch has confirmed everything that it should have."""
        return self.acknowledged == self.desired

    @property
    def in_effect(self) -> bool:
        """Whether everything that the switch should have is in effect."""
        return self.current and self.settled == self.desired


class BelievedPort(msgspec.Struct, frozen=True):
    """A port of a node's switch that is a pod's, and has its flows."""

    name: str
    ofport: int
    pod: str
    addresses: tuple[str, ...]


class RefusedPort(msgspec.Struct, frozen=True):
    """A port that gets no flows. `pods` are those that its name fits; `address` may be empty."""

    name: str
    ofport: int
    address: str
    reason: str
    pods: tuple[str, ...] = ()
    since: datetime | None = None


class NodeStatus(msgspec.Struct, frozen=True):
    """A node of the cluster.

    `session` is the state of the session with its switch (see `ovsnet.controller.states`), or
    `none` while there is no connection; `since` when that connection began or ended. `flows` is
    how many the node is to have. `datapath` is `netdev` (userspace) or `system` (the kernel's),
    and empty while it is not known.
    """

    name: str
    session: str
    datapath_id: str
    flows: int
    revision: Revision
    since: datetime | None = None
    ports: tuple[BelievedPort, ...] = ()
    refused: tuple[RefusedPort, ...] = ()
    datapath: str = ""

    @property
    def connected(self) -> bool:
        """Whether there is a session with the node's switch."""
        return self.session != NO_SESSION


NO_SESSION = "none"


class PodDropped(msgspec.Struct, frozen=True):
    """Packets of a pod that were dropped because no policy grants their connection: one that the
    pod began (direction `egress`) or in which it was called (`ingress`).

    They are counted since the pod has been isolated on this node. `policies` are those that
    isolate it, as `namespace/name`; `(more than 8)` stands for more than that.
    """

    pod: str
    node: str
    direction: str
    policies: tuple[str, ...]
    packets: int


class PolicyComplaint(msgspec.Struct, frozen=True):
    """A part of a policy (`namespace/name`) that is not enforced as it stands: which field, why,
    and what is done instead.
    """

    policy: str
    field: str
    reason: str


class ServiceComplaint(msgspec.Struct, frozen=True):
    """A part of a service that is not served as it stands, or of one of its slices: `kind` is
    `Service` or `EndpointSlice`, `name` its `namespace/name`.

    Of one object with many such parts a few are told; the last one, whose `field` is empty, says
    how many more there are.
    """

    kind: str
    name: str
    field: str
    reason: str


class WatchState(StrEnum):
    """How the view of one kind of API objects stands."""

    LISTING = "listing"
    CURRENT = "current"
    STALE = "stale"


class WatchStatus(msgspec.Struct, frozen=True):
    """The watch of one kind: while it is stale, since when and why.

    Everything up to `version` (a resourceVersion) is known, and all that was written before a
    fresh list was asked for by `POST /refresh`, up to the one that got the number `refreshed`.
    """

    kind: str
    state: WatchState
    objects: int = 0
    since: datetime | None = None
    reason: str = ""
    version: int = 0
    refreshed: int = 0


class Leadership(msgspec.Struct, frozen=True):
    """Which of several controllers leads. All of them know all, and one writes.

    `identity` is the answering controller's own, `leader` that of the one that leads (empty: nobody
    that it knows of): pod, address and a number that no other has, with `_` between them. `term` is
    the leader's; it leads since `since`, by its own clock. `lease` is the Lease's namespace and
    name.
    """

    leads: bool
    identity: str
    leader: str
    term: int
    lease: str
    since: datetime | None = None

    @property
    def pod(self) -> str:
        """The leader's pod; empty if nobody leads."""
        return self.leader.partition("_")[0]

    def referral(self, command: str) -> str:
        """What to tell whoever asks one that stands by: whom to ask, and how."""
        if not self.leader:
            return "this controller stands by, and knows of none that leads"
        # Controllers are in the namespace of their Lease.
        namespace = self.lease.partition("/")[0]
        how = f"kubectl -n {namespace} exec {self.pod} -- ovsnet {command}"
        return f"this controller stands by; {self.pod} leads: {how}"


class Refresh(msgspec.Struct, frozen=True):
    """What `POST /refresh` answers: the number of this request for fresh lists of all kinds."""

    refresh: int


class Status(msgspec.Struct, frozen=True):
    """One controller. `generation` is its term of leadership, 0 while it stands by; `leadership` is
    there if there may be several. `drops` begins with the most.
    `policies` are those that are not enforced as they stand, `services` those that are not served
    as they stand, in the order of their names.
    """

    version: str
    generation: int
    started: datetime
    ready: bool
    watches: tuple[WatchStatus, ...]
    nodes: tuple[NodeStatus, ...]
    drops: tuple[PodDropped, ...] = ()
    policies: tuple[PolicyComplaint, ...] = ()
    services: tuple[ServiceComplaint, ...] = ()
    leadership: Leadership | None = None

    @property
    def stands_by(self) -> bool:
        """Whether it writes nothing, and cannot know what is in effect."""
        return self.leadership is not None and not self.leadership.leads

    def missing(
        self,
        refreshed: int = 0,
        versions: Mapping[str, int] | None = None,
        *,
        everywhere: bool = True,
    ) -> list[str]:
        """What is not yet known or not yet in effect, in words; empty if all is.

        Known must be what was written before a `POST /refresh` got the number `refreshed`, and the
        objects of each kind up to its version in `versions`. All that is known must be in effect
        on every node; without `everywhere`, only on those whose switch is connected.
        """
        wanted = versions or {}
        found = [] if self.ready else ["the controller has not yet read the cluster's objects"]
        if self.stands_by:
            found.append("this controller stands by, and does not know what is in effect")
        for watch in self.watches:
            if watch.state is WatchState.STALE:
                found.append(f"there is no news of {watch.kind} objects: {watch.reason}")
            elif watch.refreshed < refreshed:
                found.append(f"{watch.kind} objects are being listed")
            elif watch.version < wanted.get(watch.kind, 0):
                found.append(
                    f"{watch.kind} objects are known up to version {watch.version}, which is"
                    f" before {wanted[watch.kind]}"
                )
        kinds = {watch.kind for watch in self.watches}
        found += [f"{kind} objects are not watched" for kind in sorted(wanted.keys() - kinds)]
        for node in self.nodes:
            revision = node.revision
            if not node.connected:
                found += [f"{node.name}: its switch is not connected"] if everywhere else []
            elif not revision.in_effect:
                found.append(
                    f"{node.name} has settled revision {_or_none(revision.settled)}"
                    f" (acknowledged {_or_none(revision.acknowledged)}) of {revision.desired}"
                )
        return found

    def problems(self) -> tuple[str, ...]:
        """What is not as it should be, in words; empty if all is well."""
        found = [] if self.ready else ["the controller has not yet read the cluster's objects"]
        if self.leadership is not None and not self.leadership.leader:
            found.append("no controller leads")
        for watch in self.watches:
            if watch.state is WatchState.STALE:
                found.append(f"no news of {watch.kind} objects: {watch.reason}")
        for node in self.nodes:
            if not node.connected:
                found.append(f"{node.name}: its switch is not connected")
            elif not node.revision.current and not self.stands_by:
                found.append(f"{node.name}: its switch has not confirmed all of its flows")
            found += [f"{node.name}: port {p.name} is refused: {p.reason}" for p in node.refused]
        parts = Counter(complaint.policy for complaint in self.policies)
        for policy, count in parts.items():
            words = "a part" if count == 1 else f"{count} parts"
            found.append(f"policy {policy}: {words} of it cannot be enforced")
        parts = Counter(f"{each.kind} {each.name}" for each in self.services)
        for name, count in parts.items():
            words = "a part" if count == 1 else "several parts"
            found.append(f"{name}: {words} of it cannot be served")
        return tuple(found)


def _or_none(revision: int | None) -> str:
    return "none" if revision is None else str(revision)


Owners = Mapping[str, str]
"""The document that `GET /owners` serves: cookie in hexadecimal, as ovs-ofctl prints it, to owner
in words, such as `pod shop/web-7d4b9`.
"""


Sets = Mapping[str, str]
"""The document that `GET /sets` serves: the id of a set of endpoints, in hexadecimal, to whose they
are, such as `shop/web, port http, over IPv4`.
"""


def cookie_text(cookie: int) -> str:
    """A cookie as ovs-ofctl prints it, which is the key in `GET /owners`."""
    return f"{cookie:#x}"


_decode_status = msgspec.json.Decoder(Status).decode
_decode_refresh = msgspec.json.Decoder(Refresh).decode
_decode_texts = msgspec.json.Decoder(dict[str, str]).decode


def read_status(body: bytes) -> Status:
    """The document from its JSON.

    Raises:
        ValueError: it is none; the message names the field.
    """
    return _decode_status(body)


def read_refresh(body: bytes) -> int:
    """The number of a request for fresh lists, from the answer's JSON.

    Raises:
        ValueError: it has none.
    """
    return _decode_refresh(body).refresh


def read_owners(body: bytes) -> Owners:
    """The document from its JSON.

    Raises:
        ValueError: it is none.
    """
    return _decode_texts(body)


def read_sets(body: bytes) -> Sets:
    """The document from its JSON.

    Raises:
        ValueError: it is none.
    """
    return _decode_texts(body)
