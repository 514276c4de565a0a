"""One command under the stock kernel, in QEMU without KVM, on this machine's own files.

The host's files are the machine's root directory beneath an overlay: whatever it writes is gone
when it is switched off. Its clock counts instructions. So a machine that has to wait for the host's
processor, or that QEMU translates slowly, has a slow clock as well, and no test's deadline comes
too early. (QEMU counts for one processor only: with two, the kernel waits for the second for ever.)
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from tests.kernel.image import Image

_GUEST = Path(__file__).parent / "guest"
_COUNT = "shift=0,sleep=on"
"""An instruction takes a nanosecond, the least that QEMU knows; a wait takes its time."""
_LOOK_SECONDS = 0.5


class Limits(NamedTuple):
    """What a machine may take: memory, and seconds of the host's time."""

    megabytes: int
    seconds: int


class MachineError(Exception):
    """The machine ended without a word of its command. The text has its console's last lines."""


def run(
    image: Image,
    command: Sequence[str],
    directory: Path,
    environment: Mapping[str, str],
    limits: Limits,
    output: BinaryIO,
    stop: threading.Event,
) -> int:
    """Run the command there as root, with its words to `output`. Returns its status.

    `stop` switches the machine off.

    Raises:
        MachineError: it did not start, or was not done in time.
    """
    with tempfile.TemporaryDirectory(prefix="ovsnet-kernel-") as name:
        exchange = Path(name)
        settings = [f"export {key}={shlex.quote(value)}" for key, value in environment.items()]
        lines = [*settings, f"cd {shlex.quote(str(directory))}", shlex.join(command)]
        (exchange / "command").write_text("\n".join(lines) + "\n")
        console = exchange / "console"
        arguments = _arguments(image, exchange, console, limits.megabytes)
        ended = _boot(arguments, limits.seconds, output, stop)
        status = exchange / "status"
        if status.exists() and status.read_text().strip():
            return int(status.read_text())
        words = console.read_text(errors="replace") if console.exists() else ""
        last = "\n".join(words.strip().splitlines()[-8:]) or "its console is empty"
        raise MachineError(f"{ended}; {last}")


def _boot(arguments: list[str], seconds: float, output: BinaryIO, stop: threading.Event) -> str:
    """Start QEMU and wait for its end; returns how it ended."""
    until = time.monotonic() + seconds
    # A group of its own: an interrupt from the terminal is ours to handle, once.
    machine = subprocess.Popen(
        arguments, stdin=subprocess.DEVNULL, stdout=output, start_new_session=True
    )
    try:
        while time.monotonic() < until and not stop.is_set():
            try:
                return f"QEMU ended with status {machine.wait(_LOOK_SECONDS)}"
            except subprocess.TimeoutExpired:
                continue
        return "it was interrupted" if stop.is_set() else f"it was not done after {seconds:g} s"
    finally:
        if machine.poll() is None:
            os.killpg(machine.pid, signal.SIGKILL)
            machine.wait()


def _arguments(image: Image, exchange: Path, console: Path, megabytes: int) -> list[str]:
    kernel = (
        "console=ttyS0 quiet panic=-1 mitigations=off"
        f" ovsnet.modules={image.modules} ovsnet.guest={_GUEST}"
    )
    return [
        *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *("-accel", "tcg,thread=single", "-icount", _COUNT, "-cpu", "max", "-m", str(megabytes)),
        *("-kernel", str(image.kernel), "-initrd", str(image.initramfs), "-append", kernel),
        *("-serial", f"file:{console}", "-serial", "stdio"),
        *_shared("host", Path("/"), "readonly=on,multidevs=remap"),
        *_shared("exchange", exchange, "readonly=off"),
    ]


def _shared(tag: str, directory: Path, options: str) -> list[str]:
    return [
        *("-fsdev", f"local,id={tag},path={directory},security_model=none,{options}"),
        *("-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"),
    ]
