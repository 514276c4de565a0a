"""The programs that conformance needs: built from pinned Go modules, once, into a cache."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).parent
LEAST_GO = (1, 24)
"""What the Kubernetes modules ask for."""

_BUILD_SECONDS = 3600

_CNITOOL = "github.com/containernetworking/cni/cnitool"
_COREDNS = "github.com/coredns/coredns"
_KUBERNETES = "k8s.io/kubernetes"
_GINKGO = "github.com/onsi/ginkgo/v2/ginkgo"
_COMMANDS = (
    "cmd/kube-apiserver",
    "cmd/kube-controller-manager",
    "cmd/kube-scheduler",
    "cmd/kubelet",
    "cmd/kubectl",
    "test/images/agnhost",
)
_LATE_PACKETS = "test/images/regression-issue-74839"

_TLS = (
    "test/images/agnhost/porter/localhost.crt",
    "test/images/agnhost/porter/localhost.key",
)


CANNOT_RUN = 77
"""Exit status by which test programs say that they were skipped (automake's convention)."""


class MissingError(Exception):
    """Something that is needed is not there. The text says what."""


class CniPrograms(NamedTuple):
    """cnitool, and the small program beside it."""

    cnitool: Path
    libcni: Path


class Kubernetes(NamedTuple):
    """A directory with the Kubernetes programs by their usual names, and its version."""

    directory: Path
    version: str


def cache() -> Path:
    """The directory that is kept between runs, outside the repository."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "ovsnet" / "conformance"


@contextlib.contextmanager
def cached(target: Path) -> Iterator[Path | None]:
    """Fill a directory of the cache, unless it is there: yields where to fill it, or None.

    It gets its name only when it is complete. Two who want the same wait for each other.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_name(f".{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if target.exists():
            yield None
            return
        partial = target.with_name(f".{target.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        try:
            yield partial
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        partial.rename(target)


def digest(*files: Path, more: str = "") -> str:
    """A short name for the content of files, and of what else matters."""
    parts = [path.read_bytes() for path in files]
    return hashlib.sha256(b"\0".join([*parts, more.encode()])).hexdigest()[:16]


def go() -> str:
    """The Go command.

    Raises:
        MissingError: it is missing or too old.
    """
    least = ".".join(map(str, LEAST_GO))
    found = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if found is None:
        raise MissingError(
            "Go is not installed; it is needed to build the programs that are run here."
            f" Get {least} or later from https://go.dev/dl/"
        )
    # Asked outside of any module, so that Go does not fetch another version of itself to answer.
    said = subprocess.run(
        [found, "env", "GOVERSION"],
        env={**os.environ, "GOTOOLCHAIN": "local"},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    numbers = re.match(r"go(\d+)\.(\d+)", said)
    if numbers is None or (int(numbers[1]), int(numbers[2])) < LEAST_GO:
        raise MissingError(f"{found} is {said or 'of no known version'}; go{least} is needed")
    return found


def cnitool() -> CniPrograms:
    """cnitool, the CNI project's own tool.

    Raises:
        MissingError: Go is missing or too old, or the source cannot be fetched or built.
    """
    module = SOURCE / "cnitool"
    files = [module / name for name in ("go.mod", "go.sum", "libcni/main.go")]
    target = cache() / f"cnitool-{digest(*files)}"
    with cached(target) as partial:
        if partial:
            _build(module, partial, [_CNITOOL, "./libcni"])
    return CniPrograms(target / "cnitool", target / "libcni")


def kubernetes(report: Callable[[str], None]) -> Kubernetes:
    """What a cluster and its pods run: the control plane, kubelet, kubectl, agnhost.

    Raises:
        MissingError: Go is missing or too old, or the source cannot be fetched or built.
    """
    module = SOURCE / "kubernetes"
    version = _version(module, _KUBERNETES)
    flags = ["-ldflags", _linked(version)]
    made = " ".join((*_COMMANDS, *_TLS, (module / "pause" / "main.go").read_text()))
    target = cache() / f"kubernetes-{version}-{_digest_of(module, made)}"
    with cached(target) as partial:
        if partial:
            for command in _COMMANDS:
                report(f"building {command.rpartition('/')[2]} {version} (minutes, this once)")
                _build(module, partial, [*flags, f"{_KUBERNETES}/{command}"])
            _build(module, partial, ["-ldflags", "-s -w", "./pause"])
            for source in _TLS:
                shutil.copy(_source_of(module) / source, partial)
    return Kubernetes(target, version)


def late_packets(report: Callable[[str], None]) -> Path:
    """The server of upstream's test of packets that come too late (Kubernetes' issue 74839).

    Raises:
        MissingError: as `kubernetes`.
    """
    module = SOURCE / "kubernetes"
    version = _version(module, _KUBERNETES)
    target = cache() / f"late-packets-{version}-{_digest_of(module)}"
    with cached(target) as partial:
        if partial:
            report("building a server of upstream's tests")
            _build(module, partial, ["-ldflags", "-s -w", f"{_KUBERNETES}/{_LATE_PACKETS}"])
    return target / Path(_LATE_PACKETS).name


class Suites(NamedTuple):
    """Kubernetes' own end-to-end tests as one program, and what runs parts of it side by side."""

    tests: Path
    ginkgo: Path


def e2e(report: Callable[[str], None]) -> Suites:
    """Kubernetes' own end-to-end tests.

    Raises:
        MissingError: as `kubernetes`.
    """
    module = SOURCE / "kubernetes"
    version = _version(module, _KUBERNETES)
    target = cache() / f"e2e-{version}-{_digest_of(module)}"
    with cached(target) as partial:
        if partial:
            report(f"building Kubernetes' end-to-end tests {version} (minutes, this once)")
            what = ["-ldflags", _linked(version), f"{_KUBERNETES}/test/e2e"]
            _run(module, ["test", "-c", *_FLAGS, "-o", f"{partial}/e2e.test", *what])
            _build(module, partial, ["-ldflags", "-s -w", _GINKGO])
    return Suites(target / "e2e.test", target / "ginkgo")


def coredns(report: Callable[[str], None]) -> Path:
    """CoreDNS.

    Raises:
        MissingError: as `kubernetes`.
    """
    module = SOURCE / "coredns"
    target = cache() / f"coredns-{_version(module, _COREDNS)}-{_digest_of(module)}"
    with cached(target) as partial:
        if partial:
            report("building CoreDNS (minutes, this once)")
            _build(module, partial, ["-ldflags", "-s -w", _COREDNS])
    return target / "coredns"


_FLAGS = ("-mod=readonly", "-trimpath")


def _digest_of(module: Path, more: str = "") -> str:
    return digest(module / "go.mod", module / "go.sum", module / "tools.go", more=more)


def _version(module: Path, name: str) -> str:
    found = re.search(rf"{re.escape(name)} (v\S+)", (module / "go.mod").read_text())
    assert found, f"{module}/go.mod requires no {name}"
    return found[1]


def _source_of(module: Path) -> Path:
    """Where Go keeps the source of Kubernetes; it was fetched when the programs were built."""
    command = [go(), "list", "-m", "-f", "{{.Dir}}", _KUBERNETES]
    found = subprocess.run(command, cwd=module, capture_output=True, text=True, check=True)
    return Path(found.stdout.strip())


def _linked(version: str) -> str:
    """What Kubernetes' own build tells the linker; kubectl cannot parse the version without it."""
    major, minor, _ = version.removeprefix("v").split(".")
    package = "k8s.io/component-base/version"
    values = {"gitVersion": version, "gitMajor": major, "gitMinor": minor}
    return "-s -w " + " ".join(f"-X {package}.{name}={value}" for name, value in values.items())


def _build(module: Path, into: Path, what: list[str]) -> None:
    _run(module, ["build", *_FLAGS, "-o", f"{into}/", *what])


def _run(module: Path, arguments: list[str]) -> None:
    command = [go(), *arguments]
    environment = {**os.environ, "CGO_ENABLED": "0"}
    try:
        subprocess.run(command, cwd=module, env=environment, check=True, timeout=_BUILD_SECONDS)
    except subprocess.TimeoutExpired:
        raise MissingError(f"{arguments[-1]} was not built within {_BUILD_SECONDS} s") from None
    except subprocess.CalledProcessError as error:
        raise MissingError(
            f"{arguments[-1]} could not be built: go ended with {error.returncode}"
        ) from None
