"""Installing ovsnet on the cluster as a user would, and keeping what tells why it failed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ovsnet.sandbox import node, plan
from ovsnet.sandbox.layout import Layout
from tests.conformance.cluster import machine
from tests.conformance.cluster.cluster import Cluster, Report, load, wait_until
from tests.conformance.cluster.machine import Machine
from tests.conformance.record import REPORTS, ROOT

SYSTEM = "ovsnet-system"
_README = ROOT / "README.md"
_OPERATIONS = ROOT / "docs" / "operations.md"
_SECTION = "## Install on your cluster"
_CHOICES = (
    "cp -r deploy my-cluster\n"
    "$EDITOR my-cluster/config/agent.toml my-cluster/config/controller.toml\n"
)
"""What somebody has who has installed it before."""
COREDNS = Path(__file__).with_name("coredns.yaml")
_READY_SECONDS = 300.0
NEXT_VERSION = "0.1.1"
_NOT_OF_A_CHECKOUT = shutil.ignore_patterns(".git", ".venv", "build", "*cache*")


class InstallError(Exception):
    """The network could not be installed. The text says what failed."""


def image(report: Report, source: Path = ROOT) -> Path:
    """The archive of ovsnet's image, built if anything that goes into it has changed.

    Raises:
        InstallError: it cannot be built.
    """
    report("building ovsnet's image (minutes, the first time)")
    done = subprocess.run(
        [source / "deploy" / "build-image"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise InstallError(f"deploy/build-image: {done.stderr.strip()[-2000:]}")
    return Path(done.stdout.split()[-1])


def _bring(cluster: Cluster, archive: Path, report: Report) -> None:
    report("bringing it to the nodes")
    with ThreadPoolExecutor(len(cluster.machines)) as pool:
        for _ in pool.map(lambda made: load(made, archive), cluster.machines):
            pass


def commands(page: Path, section: str) -> str:
    """The commands in a section of a page; its heading is given.

    Raises:
        InstallError: it has none.
    """
    text = page.read_text().partition(f"{section}\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"^```(?:sh|bash)?\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    if not blocks:
        raise InstallError(f"{page.name} has no commands under {section!r}")
    return "".join(blocks)


def install(cluster: Cluster, report: Report) -> None:
    """Do what the README says, word for word, and wait until every node is ready; then DNS.

    Raises:
        InstallError, MachineError, ClusterError: that does not work.
    """
    _bring(cluster, image(report), report)
    report("installing ovsnet as the README says")
    follow(cluster, commands(_README, _SECTION))
    wait_until(
        cluster,
        lambda: not not_ready(cluster),
        "every node to be ready",
        _READY_SECONDS,
        lambda: not_ready(cluster),
    )
    for what in ("daemonset/ovsnet-node", "deployment/ovsnet-controller"):
        cluster.kubectl("--namespace", SYSTEM, "rollout", "status", what, "--timeout=180s")
    cluster.kubectl("apply", "-f", str(COREDNS))
    cluster.kubectl(
        *("--namespace=kube-system", "rollout", "status", "deployment/coredns", "--timeout=180s")
    )


def upgrade(cluster: Cluster, report: Report) -> None:
    """Bring `NEXT_VERSION` to the cluster as the operations page says. Its code is this one's.

    Raises:
        InstallError, MachineError, ClusterError: that does not work.
    """
    with tempfile.TemporaryDirectory() as name:
        source = Path(name)
        _copy_as_next(source)
        _bring(cluster, image(report, source), report)
        report(f"upgrading to {NEXT_VERSION}")
        follow(cluster, _CHOICES + commands(_OPERATIONS, "## Upgrade"), source / "deploy")


def _copy_as_next(source: Path) -> None:
    """Copy this checkout, as a version that comes after this one."""
    shutil.copytree(ROOT, source, ignore=_NOT_OF_A_CHECKOUT, dirs_exist_ok=True)
    version = re.search(r"^version = (.*)$", (ROOT / "setup.cfg").read_text(), re.MULTILINE)
    assert version is not None
    for path in (source / "setup.cfg", *(source / "deploy").rglob("*.yaml")):
        path.write_text(path.read_text().replace(version[1], NEXT_VERSION))


def uninstall(cluster: Cluster) -> None:
    """Do what the operations page says, with the files that it was installed from.

    Raises:
        InstallError: that does not work.
    """
    follow(cluster, _CHOICES + commands(_OPERATIONS, "## Uninstall"))


def on_switch(cluster: Cluster, node: str, *command: str) -> str:
    """What a command of Open vSwitch on a node's br-int prints."""
    pods = cluster.kubectl(
        *("--namespace", SYSTEM, "get", "pods", "--output=name"),
        *("--selector", "app.kubernetes.io/component=node"),
        *("--field-selector", f"spec.nodeName={node}"),
    )
    return cluster.kubectl(
        *("--namespace", SYSTEM, "exec", pods.split()[0], "--", *command, "br-int")
    )


def follow(cluster: Cluster, text: str, deploy: Path = ROOT / "deploy") -> None:
    """Run commands for a shell where kubectl reaches the cluster, beside a copy of `deploy`.

    Raises:
        InstallError: one failed.
    """
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        shutil.copytree(deploy, directory / "deploy")
        editor = directory / "editor"
        editor.write_text(_editor(cluster))
        editor.chmod(0o755)
        environment = os.environ | {
            "KUBECONFIG": str(cluster.kubeconfig),
            "PATH": f"{cluster.stock.kubernetes}:{os.environ['PATH']}",
            "EDITOR": str(editor),
        }
        done = subprocess.run(
            cluster.within_control(["bash", "-euo", "pipefail", "-c", text]),
            cwd=directory,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise InstallError(f"{text}\nfailed: {done.stderr.strip()}")


def _editor(cluster: Cluster) -> str:
    """A program that changes the files it is given as somebody would who knows this cluster."""
    ranges = json.dumps(plan.SERVICE_CIDRS)
    values = {"apiserver": json.dumps(cluster.api_server), "services": ranges}
    if not node.kernel_datapath():
        values["underlay_bridge"] = '"br-phy"'
    edits = "".join(f" -e 's|^{name} = .*|{name} = {value}|'" for name, value in values.items())
    return f'#!/bin/sh\nexec sed -i{edits} "$@"\n'


def not_ready(cluster: Cluster) -> dict[str, str]:
    """The nodes that are not ready, and why."""
    found = {}
    for each in json.loads(cluster.kubectl("get", "nodes", "--output=json"))["items"]:
        conditions = each["status"].get("conditions", ())
        ready = next((c for c in conditions if c["type"] == "Ready"), {})
        if ready.get("status") != "True":
            found[each["metadata"]["name"]] = str(ready.get("message", "unknown"))
    return found


def keep_logs(layout: Layout) -> Path:
    """Copy what the programs and the pods on every machine have printed; where to."""
    kept = REPORTS / "logs"
    shutil.rmtree(kept, ignore_errors=True)
    for source, target in (
        (layout.logs, kept),
        (layout.root / "control" / "log", kept / "control"),
    ):
        if source.exists():
            shutil.copytree(source, target, dirs_exist_ok=True)
    for directory in (layout.root / "machines").glob("*"):
        made = Machine(layout, directory.name)
        pods = made.root / "var" / "log" / "pods"
        if pods.exists():
            shutil.copytree(pods, kept / made.name / "pods", dirs_exist_ok=True)
        for command in ("ip address", "ip route", "ovs-vsctl show", "nft list ruleset"):
            said = subprocess.run(
                machine.inside(made, command.split()), capture_output=True, text=True, check=False
            )
            (kept / made.name).mkdir(parents=True, exist_ok=True)
            name = command.replace(" ", "-")
            (kept / made.name / f"{name}.txt").write_text(said.stdout + said.stderr)
    return kept
