"""What a cluster is made of, built or fetched once and kept between runs."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec

from tests.conformance import programs, roots
from tests.conformance.cluster import images
from tests.conformance.cluster.images import Image
from tests.conformance.cluster.kubelet import PAUSE
from tests.conformance.programs import MissingError, cache, cached, digest

AGNHOST = "registry.k8s.io/e2e-test-images/agnhost:2.56"
COREDNS = "registry.k8s.io/coredns/coredns:v1.12.4"
_DNS_TOOLS = "registry.k8s.io/e2e-test-images/jessie-dnsutils:1.7"
_BUSYBOX = "registry.k8s.io/e2e-test-images/busybox:1.37.0-1"
_LATE_PACKETS = "registry.k8s.io/e2e-test-images/regression-issue-74839:1.2"
_E2E_PAUSE = "registry.k8s.io/pause:3.10.1"


class Stock(msgspec.Struct, frozen=True):
    """The directory with the Kubernetes programs, and archives of images for every node."""

    kubernetes: Path
    version: str
    archives: tuple[Path, ...]


def stock(report: Callable[[str], None]) -> Stock:
    """Everything, made where it is missing.

    Raises:
        MissingError: a tool is missing, or something cannot be built.
    """
    if not shutil.which("etcd"):
        raise MissingError("etcd is not installed; apt-get install etcd-server")
    built = programs.kubernetes(report)
    return Stock(built.directory, built.version, (_archive(built.directory, report),))


def _archive(kubernetes: Path, report: Callable[[str], None]) -> Path:
    """The archive of what is not ours: pause, agnhost, CoreDNS, and tools of upstream's tests."""
    dns = programs.coredns(report)
    late = programs.late_packets(report)
    tools = roots.tools(report)
    found = shutil.which("busybox")
    if found is None:
        raise MissingError("busybox is not installed; apt-get install busybox-static")
    busybox = Path(found)
    sources = "".join(map(str, (kubernetes, dns, late, tools)))
    target = cache() / f"images-{digest(Path(images.__file__), Path(__file__), more=sources)}"
    with cached(target) as partial:
        if partial:
            report("making images")
            served = ("agnhost", "localhost.crt", "localhost.key")
            agnhost = {f"/{name}": kubernetes / name for name in served} | {"/coredns": dns}
            pause = {"/pause": kubernetes / "pause"}
            images.write(
                partial / "images.tar",
                [
                    Image(PAUSE, ("/pause",), files=pause),
                    Image(_E2E_PAUSE, ("/pause",), files=pause),
                    Image(
                        AGNHOST,
                        ("/agnhost",),
                        ("pause",),
                        base=tools,
                        files=agnhost,
                        links={"/agnhost-2": "agnhost"},
                    ),
                    Image(_DNS_TOOLS, (), ("sleep", "infinity"), base=tools),
                    Image(
                        _BUSYBOX,
                        (),
                        ("sh",),
                        files={"/bin/busybox": busybox},
                        links={f"/bin/{name}": "busybox" for name in _applets(busybox)},
                    ),
                    Image(_LATE_PACKETS, (f"/{late.name}",), files={f"/{late.name}": late}),
                    Image(COREDNS, ("/coredns",), files={"/coredns": dns}),
                ],
            )
    return target / "images.tar"


def _applets(busybox: Path) -> list[str]:
    """The names by which the program is called for what it can do."""
    done = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True)
    return [name for name in done.stdout.split() if name != "busybox"]
