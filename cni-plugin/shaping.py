"""Limits of a pod's bandwidth, which Kubernetes' annotations `kubernetes.io/ingress-bandwidth` and
`kubernetes.io/egress-bandwidth` ask for, and which the runtime hands on as the capability
`bandwidth` (CNI conventions, "Dynamic Plugin specific Fields").

What goes into a pod is limited by Open vSwitch at the port (see `ports`), what comes out of it by a
token bucket, tc-tbf(8), at the pod's own end of the pair. The plugin `bandwidth` does either at the
host's end, where Open vSwitch removes the one when it starts, and its userspace datapath has
taken the packet before it comes to the other.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ovsnet.cni.errors import CniError, Code
from ovsnet.cni.netlink import CREATE, REPLACE, Message, attribute, attribute_text, attribute_u32

_TCMSG = struct.Struct("=BxxxiIII")
_RATE = struct.Struct("=BBHhHI")
_NEWQDISC = 36
_ROOT = 0xFFFFFFFF
_HANDLE = 1 << 16
_TCA_KIND, _TCA_OPTIONS = 1, 2
_TBF_PARMS, _TBF_RATE64, _TBF_BURST = 1, 4, 6
_LINKLAYER_ETHERNET = 1
_MOST_U32 = 0xFFFFFFFF

_BURST_SECONDS = 0.1
_QUEUE_SECONDS = 0.025
_LEAST_BURST = 1 << 16
"""Bytes: what one packet may have before it is cut for the wire."""


@dataclass(frozen=True)
class Limit:
    """So many bits a second; so many at once."""

    rate: int
    burst: int

    @property
    def burst_bytes(self) -> int:
        """What is let through at once, in bytes.

        Kubernetes' annotations have no burst, and runtimes ask for as much as fits in their number,
        which would be hundreds of megabytes before anything is limited.
        """
        most = round(self.rate / 8 * _BURST_SECONDS)
        return max(_LEAST_BURST, min(self.burst // 8, most) if self.burst else most)


@dataclass(frozen=True)
class Shaping:
    """The limits of what goes into a pod and what comes out of it; None: no limit."""

    into: Limit | None = None
    out: Limit | None = None


def parse(value: object) -> Shaping:
    """`runtimeConfig.bandwidth`; rates of 0 and absent ones are no limits.

    Names of fields are taken in any case, as plugins in Go take them: containerd 1.6 writes
    `IngressRate`.

    Raises:
        CniError: 7, it has not that form.
    """
    if value is None:
        return Shaping()
    if not isinstance(value, dict):
        raise CniError(
            Code.INVALID_CONFIG,
            f"runtimeConfig.bandwidth is {type(value).__name__}; expected an object with"
            " ingressRate, ingressBurst, egressRate, egressBurst",
        )
    folded = {name.lower(): field for name, field in value.items()}
    return Shaping(_limit(folded, "ingress"), _limit(folded, "egress"))


def _limit(folded: Mapping[str, Any], direction: str) -> Limit | None:
    numbers = []
    for key in (f"{direction}Rate", f"{direction}Burst"):
        number = folded.get(key.lower(), 0)
        if isinstance(number, bool) or not isinstance(number, int) or number < 0:
            raise CniError(
                Code.INVALID_CONFIG,
                f"runtimeConfig.bandwidth.{key} is {number!r}; expected a number of bits",
            )
        numbers.append(number)
    rate, burst = numbers
    return Limit(max(8, rate), burst) if rate else None


def limit_sender(index: int, limit: Limit) -> Message:
    """Have a device send no more than that."""
    rate, burst = limit.rate // 8, limit.burst_bytes
    waiting = min(_MOST_U32, burst + round(rate * _QUEUE_SECONDS))
    ratespec = _RATE.pack(0, _LINKLAYER_ETHERNET, 0, 0, 0, min(rate, _MOST_U32))
    parameters = ratespec + _RATE.pack(0, 0, 0, 0, 0, 0) + struct.pack("=III", waiting, 0, 0)
    options = attribute(_TBF_PARMS, parameters)
    if rate > _MOST_U32:
        options += attribute(_TBF_RATE64, struct.pack("=Q", rate))
    options += attribute_u32(_TBF_BURST, min(burst, _MOST_U32))
    body = (
        _TCMSG.pack(socket.AF_UNSPEC, index, _HANDLE, _ROOT, 0)
        + attribute_text(_TCA_KIND, "tbf")
        + attribute(_TCA_OPTIONS, options)
    )
    return Message(_NEWQDISC, CREATE | REPLACE, body, f"limit {index} to {limit.rate} bits/s")
