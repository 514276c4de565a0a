"""Named network namespaces: making and deleting them, and running functions inside.

Python 3.11 has neither setns nor unshare, and pyroute2 takes 0.2 s to import, which every process
of the sandbox would pay; so these four system calls are made through ctypes.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_CLONE_NEWNET = 0x40000000
_MS_BIND = 0x1000
_MNT_DETACH = 2
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1
_IFREQ_FLAGS = struct.Struct("16sh22x")

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def enter(path: Path) -> None:
    """Move the calling thread into the network namespace at `path`, for good.

    Raises:
        OSError: there is no such namespace, or the right to enter it is missing.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_libc.setns(descriptor, _CLONE_NEWNET), f"cannot enter {path}")
    finally:
        os.close(descriptor)


def _in_thread(work: Callable[[], T]) -> T:
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="netns")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def within(path: Path, work: Callable[[], T]) -> T:
    """The result of `work`, run in a thread of its own inside the network namespace at `path`.

    Sockets and child processes that it makes stay in that namespace; the caller stays where it is.

    Raises:
        OSError: the namespace cannot be entered. Whatever `work` raises comes through.
    """

    def run() -> T:
        enter(path)
        return work()

    return _in_thread(run)


def create(path: Path) -> None:
    """Make a network namespace, its loopback up, and keep it alive by a mount at `path`.

    Raises:
        FileExistsError: there is a file at `path` already.
        OSError: the kernel refused.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444))

    def run() -> None:
        _check(_libc.unshare(_CLONE_NEWNET), "cannot make a network namespace")
        loopback_up()
        source = f"/proc/self/task/{threading.get_native_id()}/ns/net".encode()
        _check(
            _libc.mount(source, os.fsencode(path), b"none", _MS_BIND, None),
            f"cannot mount the namespace on {path}",
        )

    try:
        _in_thread(run)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def delete(path: Path) -> None:
    """Take the name of a network namespace away; it ends with its last process and socket.

    Deleting one that is not there succeeds.

    Raises:
        OSError: the kernel refused.
    """
    # A namespace can be mounted on one name more than once; all of it goes.
    while _libc.umount2(os.fsencode(path), _MNT_DETACH) == 0:
        pass
    number = ctypes.get_errno()
    if number not in (errno.EINVAL, errno.ENOENT):
        raise OSError(number, f"cannot unmount {path}: {os.strerror(number)}")
    path.unlink(missing_ok=True)


def exists(path: Path) -> bool:
    """Whether `path` is a network namespace, and not merely the file that one was mounted on."""
    try:
        return path.stat().st_dev == Path("/proc/self/ns/net").stat().st_dev
    except FileNotFoundError:
        return False


def loopback_up() -> None:
    """Bring up the loopback interface of the calling thread's network namespace."""
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as control:
        answer = fcntl.ioctl(control, _SIOCGIFFLAGS, _IFREQ_FLAGS.pack(b"lo", 0))
        _, flags = _IFREQ_FLAGS.unpack(answer)
        fcntl.ioctl(control, _SIOCSIFFLAGS, _IFREQ_FLAGS.pack(b"lo", flags | _IFF_UP))
