"""Entering a pod's network namespace from one thread of the agent.

A network namespace belongs to a thread, so one thread can work inside a pod's namespace while
the others stay in the node's. Sockets keep the namespace that they were made in.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from collections.abc import Iterator
from pathlib import Path

_CLONE_NEWNET = 0x40000000
_OWN = "/proc/thread-self/ns/net"
_PROC_NET = Path("/proc/sys/net")
_STRAYED = 70
_libc = ctypes.CDLL(None, use_errno=True)


class NotANamespace(Exception):  # noqa: N818  says what the file is
    """The file descriptor is none of a network namespace."""


def identity(fd: int) -> str:
    """What tells one network namespace from another until the next boot: device and inode."""
    status = os.fstat(fd)
    return f"{status.st_dev}:{status.st_ino}"


def own_identity() -> str:
    """The identity of the namespace of the calling thread."""
    status = Path(_OWN).stat()
    return f"{status.st_dev}:{status.st_ino}"


def _setns(fd: int) -> None:
    if _libc.setns(fd, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@contextlib.contextmanager
def entered(fd: int) -> Iterator[None]:
    """The calling thread is inside the namespace `fd` for the time of the block.

    A thread that cannot return would configure the wrong namespace from then on, so the whole
    process ends; it is started again and repairs what was half done.

    Raises:
        NotANamespace: `fd` is some other file.
    """
    home = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            _setns(fd)
        except OSError as error:
            if error.errno == errno.EINVAL:
                raise NotANamespace from None
            raise
        try:
            yield
        finally:
            try:
                _setns(home)
            except OSError:
                os._exit(_STRAYED)
    finally:
        os.close(home)


def read_sysctl(name: str) -> str:
    """A value below /proc/sys/net, as the calling thread's namespace has it: `ipv4/ip_forward`.

    Raises:
        OSError: there is no such setting.
    """
    return (_PROC_NET / name).read_text().strip()


def write_sysctl(name: str, value: str) -> None:
    """Set a value below /proc/sys/net of the calling thread's namespace.

    Raises:
        OSError: there is no such setting, or it may not be written.
    """
    fd = os.open(_PROC_NET / name, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)
