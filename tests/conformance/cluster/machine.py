"""A machine that shall become a node: namespaces of its own, and a root file system of its own.

Everything that makes a machine is there: network, mounts, process ids, host name. What runs on it
sees no Python and no Open vSwitch, for its root file system has none. It ends with its process 1.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from ovsnet.sandbox import netns, process
from ovsnet.sandbox.layout import Layout
from ovsnet.sandbox.process import Record, Spec

_BOOT_SECONDS = 60.0
_EMPTY_SECONDS = 60.0
_OWN = ("upper", "work", "root", "containerd", "kubelet", "boot")
_CGROUPS = Path("/sys/fs/cgroup")

# Runs as process 1 of the machine's own process ids. It still sees the outer /proc, which tells its
# pid there. Shared mounts are what kubelet asks for of a host. Its loop reaps what is left to it.
_BOOT = """
set -e
read -r pid rest < /proc/self/stat
echo "$pid" > "$dir/boot/pid.new"
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=$lower,upperdir=$dir/upper,workdir=$dir/work" "$dir/root"
cd "$dir/root"
mkdir -p opt/kubernetes var/lib/containerd var/lib/kubelet old
mount -t proc proc proc
mount -t sysfs sysfs sys
mount --rbind /sys/fs/cgroup sys/fs/cgroup
mount --rbind /dev dev
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
mount --bind "$programs" opt/kubernetes
mount --bind "$dir/containerd" var/lib/containerd
mount --bind "$dir/kubelet" var/lib/kubelet
mount --bind "$dir/boot/id" proc/sys/kernel/random/boot_id
mv "$dir/boot/pid.new" "$dir/boot/pid"
pivot_root . old
umount -l /old
mount --make-rshared /
hostname "$name"
trap : TERM INT HUP
while :; do sleep 3600 & wait $! || :; done
"""


class MachineError(Exception):
    """A machine did not start; the text has what it said."""


class Machine(msgspec.Struct, frozen=True):
    """A machine of the cluster whose files are below `layout.root`."""

    layout: Layout
    name: str

    @property
    def directory(self) -> Path:
        """What is kept of it while it is off."""
        return self.layout.root / "machines" / self.name

    @property
    def root(self) -> Path:
        """What its root file system has in other ways than at first, to be read from outside."""
        return self.directory / "upper"

    @property
    def cgroup(self) -> str:
        """Where its containers are among the control groups."""
        return f"/{self.layout.prefix}/{self.name}"

    @property
    def process(self) -> str:
        """The name of its first process in the layout's list."""
        return f"machine-{self.name}"


def make(machine: Machine) -> None:
    """Make its disk, which is in memory, and its control groups.

    Raises:
        MachineError: that was refused.
    """
    machine.directory.mkdir(parents=True)
    _mount("mount", "-t", "tmpfs", "-o", "mode=755", machine.process, str(machine.directory))
    for name in _OWN:
        (machine.directory / name).mkdir(parents=True, exist_ok=True)
    for controller in _controllers():
        (controller / machine.cgroup.lstrip("/")).mkdir(parents=True, exist_ok=True)
    _inherit_cpus(machine)


def boot(machine: Machine, lower: Path, programs: Path, boot_id: str) -> None:
    """Start it. `lower` is its root file system, `programs` what it has in /opt/kubernetes.

    Raises:
        MachineError: it did not start.
    """
    directory = machine.directory
    (directory / "boot" / "id").write_text(boot_id + "\n")
    (directory / "boot" / "pid").unlink(missing_ok=True)
    isolate = ("unshare", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child")
    spec = Spec(
        machine.process,
        (*isolate, "bash", "-c", _BOOT),
        netns=str(machine.layout.netns(machine.name)),
        environment={
            "dir": str(directory),
            "lower": str(lower),
            "programs": str(programs),
            "name": machine.name,
        },
    )
    record = process.start(machine.layout, spec)
    deadline = time.monotonic() + _BOOT_SECONDS
    while not _is_up(machine):
        if not process.alive(record) or time.monotonic() > deadline:
            said = process.log_path(machine.layout, machine.process).read_text()
            raise MachineError(f"{machine.name} did not start: {said.strip()[-2000:]}")
        time.sleep(0.02)


def _is_up(machine: Machine) -> bool:
    """Whether it has its root file system: then a command in it finds no outer directory."""
    if not (machine.directory / "boot" / "pid").exists():
        return False
    seen = subprocess.run(
        inside(machine, ["test", "-d", "/opt/kubernetes", "-a", "!", "-e", "/old/proc"]),
        capture_output=True,
        check=False,
    )
    return seen.returncode == 0


def inside(machine: Machine, command: Sequence[str]) -> list[str]:
    """The command line that runs `command` on the machine."""
    pid = (machine.directory / "boot" / "pid").read_text().strip()
    return ["nsenter", f"--target={pid}", "--mount", "--uts", "--ipc", "--net", "--pid", *command]


def start(machine: Machine, name: str, command: Sequence[str]) -> Record:
    """Start a program that stays, under `NAME-MACHINE` in the layout's list."""
    spec = Spec(f"{name}-{machine.name}", tuple(inside(machine, command)))
    return process.start(machine.layout, spec, {"PATH": os.environ["PATH"], "HOME": "/root"})


def kill(machine: Machine, name: str) -> None:
    """Kill a program that was started by `start`, wait until it has ended, and forget it.

    The process that is in the list has only entered the machine's namespaces, and waits for it.

    Raises:
        MachineError: it does not run, or does not end.
    """
    record = process.known(machine.layout, f"{name}-{machine.name}")
    run(machine, "pkill", "-KILL", "--exact", name)
    deadline = time.monotonic() + _BOOT_SECONDS
    while process.alive(record):
        if time.monotonic() > deadline:
            raise MachineError(f"{machine.name}: {name} does not end")
        time.sleep(0.05)
    process.forget(machine.layout, record.spec.name)


def run(machine: Machine, *command: str, seconds: float = 120.0) -> str:
    """What a command on the machine prints.

    Raises:
        MachineError: it failed.
    """
    done = subprocess.run(
        inside(machine, command), capture_output=True, text=True, check=False, timeout=seconds
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise MachineError(f"{machine.name}: {' '.join(command)}: {said}")
    return done.stdout


def write(machine: Machine, path: str, content: bytes) -> None:
    """Write a file of the machine, for root alone.

    Raises:
        MachineError: it cannot be written.
    """
    script = 'mkdir -p "$(dirname "$0")" && umask 077 && cat > "$0"'
    command = inside(machine, ["sh", "-c", script, path])
    done = subprocess.run(command, input=content, capture_output=True, check=False)
    if done.returncode:
        raise MachineError(f"{machine.name}: {path}: {done.stderr.decode().strip()}")


def halt(machine: Machine) -> None:
    """Turn it off as a power failure does: all its processes and its network end at once."""
    process.end(process.known(machine.layout, machine.process), signal.SIGKILL)
    netns.delete(machine.layout.netns(machine.name))


def remove_disks(layout: Layout) -> None:
    """Take all machines' disks away; what still runs on them loses nothing that it holds."""
    for directory in (layout.root / "machines").glob("*"):
        if directory.is_mount():
            _mount("umount", "--lazy", str(directory))


def _mount(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MachineError(f"{' '.join(command)}: {done.stderr.strip()}")


def remove_cgroups(layout: Layout) -> None:
    """Remove the control groups of all machines, whose processes were killed.

    Raises:
        OSError: one does not become empty.
    """
    deadline = time.monotonic() + _EMPTY_SECONDS
    tops = [top for top in (each / layout.prefix for each in _controllers()) if top.exists()]
    for top in tops:
        for directory, _, _ in os.walk(top, topdown=False):
            _remove_empty(Path(directory), deadline)


def _remove_empty(directory: Path, deadline: float) -> None:
    """A killed process leaves its group only when the kernel has dealt with all that it had."""
    while True:
        try:
            directory.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


def _controllers() -> list[Path]:
    """The hierarchies of control groups: one of version 2, or several of version 1."""
    if (_CGROUPS / "cgroup.controllers").exists():
        return [_CGROUPS]
    return [each for each in _CGROUPS.iterdir() if each.is_dir() and not each.is_symlink()]


def _inherit_cpus(machine: Machine) -> None:
    """A new cpuset of version 1 has neither processors nor memory, and takes no process."""
    cpuset = _CGROUPS / "cpuset"
    for name in ("cpuset.cpus", "cpuset.mems"):
        if not (cpuset / name).exists():
            continue
        path = cpuset
        for part in machine.cgroup.strip("/").split("/"):
            path = path / part
            if not (path / name).read_text().strip():
                (path / name).write_text((path.parent / name).read_text())
