"""`make integration-real`: the integration tests that need an API server, on a real one.

Kubernetes' programs are built once, into the cache of the conformance tests. etcd is Debian's;
where it is not installed, its package is unpacked into that cache.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import click

from tests.conformance.programs import CANNOT_RUN, MissingError, cache, cached, kubernetes

_TESTS = Path(__file__).parents[1] / "integration"
SUITES = (
    "controlplane",
    "apiserver",
    "api",
    "network",
    "policy",
    "services",
    "settled/test_settled_cluster.py",
    "sandbox",
    "cli",
    "leadership",
    "trust/test_secure_cluster.py",
    "rights",
)
"""Those that start an API server of their own, alone or with a sandbox."""


def etcd() -> Path:
    """The directory with etcd.

    Raises:
        MissingError: it is not installed and cannot be fetched.
    """
    if found := shutil.which("etcd"):
        return Path(found).parent
    target = cache() / "etcd"
    with cached(target) as partial:
        if partial:
            _unpack("etcd-server", partial)
    return target / "usr" / "bin"


def _unpack(package: str, into: Path) -> None:
    try:
        subprocess.run(("apt-get", "download", "-qq", package), cwd=into, check=True)
        (archive,) = into.glob("*.deb")
        subprocess.run(("dpkg-deb", "--extract", archive, into), check=True)
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        raise MissingError(
            f"the Debian package {package} is not installed and cannot be fetched: {error}"
        ) from None


def main() -> int:
    """Build what is missing, and run the tests; arguments are pytest's."""
    try:
        programs = kubernetes(partial(click.echo, err=True)).directory
        path = f"{etcd()}:{os.environ['PATH']}"
    except MissingError as error:
        click.echo(f"integration-real: cannot run: {error}", err=True)
        return CANNOT_RUN
    environment = os.environ | {"OVSNET_SANDBOX_APISERVER": str(programs), "PATH": path}
    chosen = sys.argv[1:] or [str(_TESTS / suite) for suite in SUITES]
    command = (sys.executable, "-m", "pytest", "-q", "--timeout=300", *chosen)
    return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
