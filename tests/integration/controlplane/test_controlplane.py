"""The real control plane as a process: it answers, keeps, ends, and leaves nothing running."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import real_apiserver
from places import wait_for

from ovsnet.sandbox import access, netns
from ovsnet.sandbox.client import ApiError, Client, Object
from ovsnet.sandbox.controlplane import credentials
from ovsnet.sandbox.controlplane.options import (
    API_SERVER,
    CONTROLLER_MANAGER,
    Options,
    Outlet,
    admin_kubeconfig,
)
from ovsnet.sandbox.controlplane.start import command, running, write
from ovsnet.sandbox.controlplane.supervisor import ControlPlaneError

NAMESPACE: Object = {"metadata": {"name": "kept"}}


def options(root: Path, **more: Any) -> Options:
    programs = str(real_apiserver.require())
    settings = {"port": real_apiserver.free_port(), "run": ()} | more
    return Options(programs=programs, directory=str(root), **settings)


def ask(kubeconfig: Path | str, method: str, path: str, body: Object | None = None) -> Object:
    way = access.of_file(kubeconfig) if isinstance(kubeconfig, Path) else access.of_text(kubeconfig)

    async def asked() -> Object:
        async with Client(way) as client:
            return await client.request(method, path, body)

    return asyncio.run(asked())


def status(kubeconfig: Path | str, method: str, path: str, body: Object | None = None) -> int:
    """HTTP's status of a request; 200 for every success."""
    try:
        ask(kubeconfig, method, path, body)
    except ApiError as error:
        return error.status
    return 200


def programs_of(root: Path) -> set[int]:
    """The processes that were told to keep their data there."""
    found = set()
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and f"={root}/".encode() in (entry / "cmdline").read_bytes():
                found.add(int(entry.name))
    return found


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Any]:
    """Starts the process as a sandbox does: by its command line. It is killed at the end."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(wanted: Options) -> subprocess.Popen[bytes]:
        file = write(wanted)
        process = subprocess.Popen(command(file), stderr=subprocess.PIPE)
        processes.append(process)
        ready = admin_kubeconfig(wanted.root)
        wait_for(lambda: ready.exists() or process.poll() is not None, "an answer", 120)
        return process

    try:
        yield start
    finally:
        for process in processes:
            process.kill()
            process.communicate()
        wait_for(lambda: not programs_of(tmp_path), "the programs to end")


def test_what_is_kept_outlives_a_kill(started: Any, tmp_path: Path) -> None:
    wanted = options(tmp_path)
    first = started(wanted)
    ask(admin_kubeconfig(tmp_path), "POST", "/api/v1/namespaces", NAMESPACE)
    node = credentials.node_kubeconfig(tmp_path, wanted.server, "n", datetime.now(UTC))
    assert len(programs_of(tmp_path)) == 2
    first.kill()
    first.wait()
    wait_for(lambda: not programs_of(tmp_path), "the programs to end with their supervisor")
    started(wanted)
    found = ask(admin_kubeconfig(tmp_path), "GET", "/api/v1/namespaces/kept")
    assert found["status"]["phase"] == "Active"
    # Whoever had credentials before has them still.
    assert status(node, "GET", "/api/v1/nodes/n") == 404


def test_it_stops_in_order_when_it_is_told_to(started: Any, tmp_path: Path) -> None:
    process = started(options(tmp_path))
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert not programs_of(tmp_path)


def test_a_program_that_ends_takes_the_others_with_it(started: Any, tmp_path: Path) -> None:
    process = started(options(tmp_path))
    (etcd,) = (pid for pid in programs_of(tmp_path) if _name(pid) == "etcd")
    os.kill(etcd, signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert b"etcd has ended with -9" in said
    assert not programs_of(tmp_path)


def _name(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def test_a_flag_that_a_program_does_not_take_is_told(tmp_path: Path) -> None:
    wanted = options(tmp_path, flags={API_SERVER: ("--nonsense",)})
    with (
        pytest.raises(ControlPlaneError, match=r"kube-apiserver has ended with 1.*nonsense"),
        running(wanted),
    ):
        pass
    assert not programs_of(tmp_path)


def test_programs_that_are_missing_are_told(tmp_path: Path) -> None:
    wanted = Options(programs=str(tmp_path), directory=str(tmp_path / "data"))
    with pytest.raises(ControlPlaneError, match=r"has no .*kube-apiserver"), running(wanted):
        pass


def test_it_ends_with_whoever_started_it(tmp_path: Path) -> None:
    wanted = options(tmp_path)
    program = f"""
        import os, signal
        import msgspec
        from ovsnet.sandbox.controlplane.options import Options
        from ovsnet.sandbox.controlplane.start import running
        with running(msgspec.json.decode({_json(wanted)!r}, type=Options)):
            os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run(
        (sys.executable, "-c", textwrap.dedent(program)), check=False, timeout=120
    )
    assert done.returncode == -signal.SIGKILL
    assert admin_kubeconfig(tmp_path).exists()
    wait_for(lambda: not programs_of(tmp_path), "the programs to end", 60)


def _json(wanted: Options) -> bytes:
    return write(wanted).read_bytes()


@pytest.fixture
def namespace() -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    path = Path(f"/run/netns/ovsnet-test-{os.getpid()}")
    netns.create(path)
    try:
        yield path
    finally:
        netns.delete(path)


def test_from_one_namespace_to_another(tmp_path: Path, namespace: Path) -> None:
    here = real_apiserver.free_port()
    outside = tmp_path / "outside"
    wanted = options(
        tmp_path / "data",
        netns=str(namespace),
        port=6443,
        forward=here,
        kubeconfigs=(Outlet(str(outside), f"https://127.0.0.1:{here}"),),
    )
    with running(wanted) as inside:
        assert status(outside, "GET", "/api/v1/nodes") == 200
        assert netns.within(namespace, lambda: status(inside, "GET", "/api/v1/nodes")) == 200
        # Nothing listens here but what leads there.
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", 6443)).close()


def test_nodes_get_ranges_and_rights_of_their_own(tmp_path: Path) -> None:
    wanted = options(tmp_path, run=(CONTROLLER_MANAGER,))
    with running(wanted) as admin:

        def of(node: str) -> str:
            return credentials.node_kubeconfig(tmp_path, wanted.server, node, datetime.now(UTC))

        for name in ("one", "two"):
            body: Object = {"metadata": {"name": name}}
            assert status(of(name), "POST", "/api/v1/nodes", body) == 200

        def ranges() -> list[str]:
            items = ask(admin, "GET", "/api/v1/nodes")["items"]
            found = [cidr for item in items for cidr in item["spec"].get("podCIDRs", ())]
            return sorted(found) if len(found) == 4 else []

        assert wait_for(ranges, "the nodes' ranges") == [
            "10.244.0.0/24",
            "10.244.1.0/24",
            "fd00:10:244:1::/64",
            "fd00:10:244::/64",
        ]
        label: Object = {"metadata": {"labels": {"x": "y"}}}
        assert status(of("one"), "PATCH", "/api/v1/nodes/two/status", label) in (403, 415)
        assert status(of("one"), "DELETE", "/api/v1/nodes/two") == 403
        assert status(of("one"), "GET", "/api/v1/secrets") == 403
        token = _token(admin, "kube-system", "default")
        speaker = credentials.token_kubeconfig(tmp_path, wanted.server, token)
        assert status(speaker, "GET", "/api/v1/nodes") == 403
        said = ask(speaker, "POST", _WHOAMI, {})["status"]["userInfo"]["username"]
        assert said == "system:serviceaccount:kube-system:default"


_WHOAMI = "/apis/authentication.k8s.io/v1/selfsubjectreviews"


def _token(admin: Path, namespace: str, account: str) -> str:
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}"
    wait_for(lambda: status(admin, "GET", path) == 200, "the account", 60)
    return str(ask(admin, "POST", f"{path}/token", {"spec": {}})["status"]["token"])
