"""Debian's stock kernel and a first root directory for it, made once into a cache."""

from __future__ import annotations

import gzip
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from tests.conformance.programs import MissingError, cache, cached, digest

_HERE = Path(__file__).parent
_INIT = _HERE / "init"
_PACKAGE = "linux-image-amd64"
_ROOT_MODULES = ("virtio_pci", "9p", "9pnet_virtio", "overlay")
"""What the first root directory needs to mount the host's files; they name what they need."""

_PROGRAMS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "busybox": "busybox-static",
    "cpio": "cpio",
    "depmod": "kmod",
    "dpkg-deb": "dpkg",
    "apt-get": "apt",
}


class Image(NamedTuple):
    """Files that a machine starts with; `modules` is the directory of the kernel's modules."""

    kernel: Path
    initramfs: Path
    modules: Path


def image() -> Image:
    """The kernel that Debian's package names today, fetched and made ready if it is not there yet.

    Raises:
        MissingError: a program is missing, or the package cannot be fetched.
    """
    missing = {name: package for name, package in _PROGRAMS.items() if not shutil.which(name)}
    if missing:
        packages = " ".join(sorted(missing.values()))
        raise MissingError(f"not installed: {', '.join(missing)}; apt-get install {packages}")
    package = _package()
    target = cache().parent / "kernel" / f"{package}-{digest(_INIT, Path(__file__))}"
    with cached(target) as partial:
        if partial:
            _fill(partial, package)
    (kernel,) = target.glob("files/boot/vmlinuz-*")
    return Image(kernel, target / "initramfs.gz", target / "files" / "lib" / "modules")


def _package() -> str:
    """The package of the newest kernel, such as linux-image-6.1.0-38-amd64."""
    shown = _said(["apt-cache", "depends", _PACKAGE], Path("/"))
    found = re.search(r"Depends: (linux-image-\S+)", shown)
    if found is None:
        raise MissingError(f"apt does not know {_PACKAGE}; apt-get update")
    return found[1]


def _fill(directory: Path, package: str) -> None:
    _said(["apt-get", "download", "-qq", package], directory)
    (archive,) = directory.glob("*.deb")
    files = directory / "files"
    _said(["dpkg-deb", "-x", str(archive), str(files)], directory)
    archive.unlink()
    (modules,) = (files / "lib" / "modules").iterdir()
    _said(["depmod", "-b", str(files), modules.name], directory)
    first = directory / "first"
    (first / "bin").mkdir(parents=True)
    shutil.copy2(_busybox(), first / "bin" / "busybox")
    shutil.copy2(_INIT, first / "init")
    (first / "init").chmod(0o755)
    (first / "modules").mkdir()
    order = _with_what_they_need(modules)
    for path in order:
        shutil.copy2(modules / path, first / "modules" / Path(path).name)
    (first / "modules" / "order").write_text("".join(f"{Path(p).stem}\n" for p in order))
    names = "\0".join(str(p.relative_to(first)) for p in sorted(first.rglob("*")))
    packed = subprocess.run(
        ["cpio", "--quiet", "--null", "-o", "-H", "newc"],
        input=names.encode(),
        cwd=first,
        capture_output=True,
        check=True,
    ).stdout
    (directory / "initramfs.gz").write_bytes(gzip.compress(packed, 1))
    shutil.rmtree(first)


def _busybox() -> str:
    """busybox, if it runs without the host's libraries."""
    path = shutil.which("busybox")
    assert path is not None
    if subprocess.run(["ldd", path], capture_output=True, check=False).returncode == 0:
        raise MissingError(f"{path} needs libraries; apt-get install busybox-static")
    return path


def _with_what_they_need(modules: Path) -> list[str]:
    """The root's modules after those that they need, as paths (modules.dep(5))."""
    needs = {}
    for line in (modules / "modules.dep").read_text().splitlines():
        path, _, others = line.partition(":")
        needs[path] = others.split()
    by_name = {Path(path).stem: path for path in needs}
    order: dict[str, None] = {}
    for name in _ROOT_MODULES:
        path = by_name.get(name)
        if path is None:
            raise MissingError(f"the kernel of {_PACKAGE} has no module {name}")
        # modules.dep names the last to be loaded first.
        order |= dict.fromkeys((*reversed(needs[path]), path))
    return list(order)


def _said(command: list[str], directory: Path) -> str:
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MissingError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
