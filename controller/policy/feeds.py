"""What pods of groups mean for a standing grant: where its subjects are, and who its peers.

A pod that changes without changing its address or node is no news to a grant, and so none to the
nodes that have its flows.
"""

from __future__ import annotations

from ovsnet.controller.policy.selection import Group, Member
from ovsnet.controller.policy.standing import StandingGrant
from ovsnet.model import IPAddress


class Subjects:
    """Tells a standing grant of its subjects."""

    __slots__ = ("_standing",)

    def __init__(self, standing: StandingGrant) -> None:
        self._standing = standing

    def joined(self, member: Member) -> None:
        """There is a new member."""
        for address in self._addresses(member):
            self._standing.subject_comes(member.home, address)

    def changed(self, before: Member, now: Member, /) -> None:
        """A member is still one, but not as it was."""
        if before.home != now.home or self._addresses(before) != self._addresses(now):
            self.left(before)
            self.joined(now)

    def left(self, member: Member) -> None:
        """A member, as it was, is none any more."""
        for address in self._addresses(member):
            self._standing.subject_goes(member.home, address)

    def _addresses(self, member: Member) -> tuple[IPAddress, ...]:
        return self._standing.grant.subject_addresses(member) if member.home else ()


class Peers:
    """Tells a standing grant of those peers that are in one of its groups."""

    __slots__ = ("_group", "_standing")

    def __init__(self, standing: StandingGrant, group: Group) -> None:
        self._standing = standing
        self._group = group

    def joined(self, member: Member) -> None:
        """There is a new member."""
        self._change((), self._addresses(member))

    def changed(self, before: Member, now: Member, /) -> None:
        """A member is still one, but not as it was."""
        self._change(self._addresses(before), self._addresses(now))

    def left(self, member: Member) -> None:
        """A member, as it was, is none any more."""
        self._change(self._addresses(member), ())

    def _addresses(self, member: Member) -> tuple[IPAddress, ...]:
        return self._standing.grant.peer_addresses(self._group, member)

    def _change(self, before: tuple[IPAddress, ...], now: tuple[IPAddress, ...]) -> None:
        for address in now:
            if address not in before:
                self._standing.peer_comes(address)
        for address in before:
            if address not in now:
                self._standing.peer_goes(address)
