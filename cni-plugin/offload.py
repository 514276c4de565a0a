"""What a network device does for the kernel with packets, by ethtool's ioctl (linux/ethtool.h)."""

from __future__ import annotations

import array
import fcntl
import socket
import struct

_SIOCETHTOOL = 0x8946
_GET_GRO, _SET_GRO = 0x2B, 0x2C
_GET_FLAGS, _SET_FLAGS = 0x25, 0x26
_LRO = 1 << 15


def _ask(device: str, command: int, value: int = 0) -> int:
    """Carry out one command of ethtool; returns the value that it leaves."""
    pair = array.array("I", [command, value])
    request = struct.pack("16sP16x", device.encode(), pair.buffer_info()[0])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SIOCETHTOOL, request)
    return pair[1]


def joins_received(device: str) -> bool:
    """True if received packets are put together to larger ones than the network carries.

    Raises:
        OSError: there is no such device, or it does not say.
    """
    return bool(_ask(device, _GET_GRO)) or bool(_ask(device, _GET_FLAGS) & _LRO)


def join_received(device: str, *, on: bool) -> None:
    """Have received packets put together (generic receive offload), or left as they come.

    Off is off for large receive offload too, which comes back by hand only: a node that forwards
    must not have it.

    Raises:
        OSError: there is no such device, or it refuses.
    """
    flags = _ask(device, _GET_FLAGS)
    if not on and flags & _LRO:
        _ask(device, _SET_FLAGS, flags & ~_LRO)
    _ask(device, _SET_GRO, int(on))
