"""A control plane for as long as a `with` lasts."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from ovsnet.sandbox.controlplane.options import Options, admin_kubeconfig
from ovsnet.sandbox.controlplane.supervisor import ControlPlaneError

_PERIOD = 0.05
_STOP_SECONDS = 60.0


def write(options: Options) -> Path:
    """Write what the process is told, and take away what says that an earlier one answers."""
    options.root.mkdir(parents=True, exist_ok=True)
    for file in (admin_kubeconfig(options.root), *(Path(o.file) for o in options.kubeconfigs)):
        file.unlink(missing_ok=True)
    file = options.root / "options.json"
    file.write_bytes(msgspec.json.format(msgspec.json.encode(options), indent=2) + b"\n")
    return file


def command(file: Path) -> tuple[str, ...]:
    """How the process is started that does what the file says."""
    return (sys.executable, "-m", "ovsnet.sandbox.controlplane", str(file))


@contextlib.contextmanager
def running(options: Options) -> Iterator[Path]:
    """A control plane that answers; yields the administrator's kubeconfig.

    It ends with the `with`, and also with the thread that began it, however that ends.

    Raises:
        ControlPlaneError: it did not start.
    """
    file = write(options)
    log = options.root / "supervisor.log"
    with log.open("wb") as written:
        process = subprocess.Popen(
            ("setpriv", "--pdeathsig", "TERM", "--", *command(file)),
            stdin=subprocess.DEVNULL,
            stdout=written,
            stderr=written,
            process_group=0,
        )
    try:
        ready = admin_kubeconfig(options.root)
        while not ready.exists():
            if process.poll() is not None:
                raise ControlPlaneError(log.read_text(errors="replace").strip())
            time.sleep(_PERIOD)
        yield ready
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            # Its children end with it.
            process.kill()
            process.wait()
