"""What a sandbox is to be like."""

from __future__ import annotations

from typing import Any

import msgspec


class Wishes(msgspec.Struct, frozen=True):
    """What a sandbox is to be like, besides how many nodes it has."""

    programs: str = ""
    """A directory with Kubernetes' programs, whose control plane it has then; empty: the embedded
    API server."""

    tunnel: str = "vxlan"
    """One of `names.TUNNEL_UDP_PORTS`: what nodes wrap packets to each other in."""

    rights: tuple[dict[str, Any], ...] = ()
    """Objects of the API by which controller and agents get their rights, with Kubernetes' control
    plane: as those of a cluster, they may then do nothing else. None: they may do everything."""


USUAL = Wishes()
