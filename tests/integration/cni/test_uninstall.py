"""After uninstalling, a node is as it was before the agent first came."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cni_node import CNI_PLUGINS, TestNode

from ovsnet.cni.trail import FILE
from ovsnet.sandbox.openvswitch import inside

UNINSTALL = (sys.executable, "-m", "ovsnet.cni.uninstall", "--state-dir")
STEPS = (
    *("network configuration", "plugins", "underlay's bridge", "switch", "links", "packet filter"),
    "kernel settings",
)
OTHERS = '{"name": "bridged", "type": "bridge"}\n'


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[TestNode]:
    """A node with settings, a plugin and a packet filter of its own, and no agent yet."""
    options = {"plugins": str(CNI_PLUGINS), "chain": ["portmap", "tuning"]}
    with TestNode(options=options) as node:
        node.run("ip", "link", "set", "lo", "up")
        node.run("ip", "link", "add", "uplink0", "type", "veth", "peer", "name", "uplink1")
        node.run("sysctl", "-qw", "net.ipv6.conf.uplink0.accept_ra=1", "net.ipv4.ip_forward=0")
        node.run("nft", "add table ip others; add chain ip others kept")
        node.run("ip", "rule", "add", "priority", "96", "lookup", "1234")
        node.bin_dir.mkdir()
        node.conf_dir.mkdir()
        shutil.copy(CNI_PLUGINS / "tuning", node.bin_dir)
        (node.conf_dir / "99-bridged.conf").write_text(OTHERS)
        node.ovs.vsctl("add-br", "br-others", "--", "set", "bridge", "br-others", *_datapath(node))
        yield node


def _datapath(node: TestNode) -> list[str]:
    return [f"datapath_type={node.options['datapath']}"]


def _rows(node: TestNode, table: str, columns: str) -> list[Any]:
    said = node.ovs.vsctl("--format=json", f"--columns={columns}", "list", table)
    return sorted(json.loads(said or '{"data": []}')["data"], key=str)


def _seen(node: TestNode) -> dict[str, Any]:
    """What there is on the node that may differ between before and after."""
    links = json.loads(node.run("ip", "-j", "link", "show"))
    settings = node.run("sysctl", "-a", "--pattern", r"^net\.ipv[46]\.(conf|ip_forward)")
    return {
        "links": sorted((link["ifname"], link["mtu"], link["operstate"]) for link in links),
        "addresses": node.run("ip", "-br", "address"),
        "rules": node.run("ip", "rule") + node.run("ip", "-6", "rule"),
        "routes": node.run("ip", "route", "show", "table", "all")
        + node.run("ip", "-6", "route", "show", "table", "all"),
        "packet filter": node.run("nft", "list", "ruleset"),
        "settings": sorted(settings.splitlines()),
        "bridges": node.ovs.vsctl("list-br"),
        "ports": _rows(node, "Port", "name"),
        "limits": _rows(node, "QoS", "type"),
        "tls": _rows(node, "SSL", "private_key"),
        "files": sorted(
            (str(path.relative_to(node.directory)), path.read_bytes() if path.is_file() else b"")
            for folder in (node.bin_dir, node.conf_dir, node.state.parent)
            for path in folder.rglob("*")
        ),
    }


def _uninstall(node: TestNode, kill_at: str = "") -> subprocess.CompletedProcess[str]:
    """Uninstall; `kill_at` names the step after which it dies by SIGKILL."""
    program = (
        "import os, signal\n"
        "from pathlib import Path\n"
        "from ovsnet.cni import uninstall\n"
        "def checkpoint(step):\n"
        f"    if step == {kill_at!r}: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"uninstall.uninstall(Path({str(node.state.parent)!r}), checkpoint)\n"
    )
    command = [*UNINSTALL, str(node.state.parent)]
    if kill_at:
        command = [sys.executable, "-c", program]
    return subprocess.run(inside(node.netns, command), capture_output=True, text=True, check=False)


def test_uninstalling_leaves_the_node_as_it_was(bare: TestNode) -> None:
    before = _seen(bare)
    bare.start_agent()
    bare.wait(lambda: any(bare.conf_dir.glob("*.conflist")), "the network configuration")
    limited = {"runtimeConfig": {"bandwidth": {"ingressRate": 8_000_000, "ingressBurst": 80_000}}}
    with bare.pod() as pod:
        bare.add(pod, limited)
        during = _seen(bare)
        unlike = [what for what in before if before[what] != during[what]]
        assert unlike == [what for what in before if what != "tls"]
        bare.stop_agent()
        done = _uninstall(bare)
        assert done.returncode == 0, done.stderr
        links = json.loads(bare.in_pod(pod, "ip", "-j", "link").stdout)
        assert [link["ifname"] for link in links] == ["lo"]
    assert _seen(bare) == before
    assert not bare.state.parent.exists()
    again = _uninstall(bare)
    assert again.returncode == 0, again.stderr


def test_it_may_be_interrupted_after_any_step_and_done_again(bare: TestNode) -> None:
    """Each time it comes one step further, and has to do again what was done."""
    before = _seen(bare)
    bare.start_agent()
    bare.wait(lambda: any(bare.conf_dir.glob("*.conflist")), "the network configuration")
    with bare.pod() as pod:
        bare.add(pod)
        bare.stop_agent()
        for step in STEPS:
            assert _uninstall(bare, kill_at=step).returncode == -signal.SIGKILL, step
            assert not any(bare.conf_dir.glob("*.conflist"))
            assert bare.state.exists()
        done = _uninstall(bare)
        assert done.returncode == 0, done.stderr
    assert _seen(bare) == before


def test_without_word_of_them_settings_stay_and_it_says_so(bare: TestNode) -> None:
    bare.start_agent()
    bare.stop_agent()
    state = bare.state.parent
    known = json.loads((state / FILE).read_text())
    places = {"places": known["places"]}
    (state / FILE).write_text(json.dumps(places))
    done = _uninstall(bare)
    assert done.returncode == 0, done.stderr
    assert "no agent has left word of kernel settings" in done.stderr
    assert bare.run("sysctl", "-n", "net.ipv4.ip_forward") == "1\n"


def test_nothing_is_touched_while_the_agent_runs(bare: TestNode) -> None:
    bare.start_agent()
    before = _seen(bare)
    done = _uninstall(bare)
    assert done.returncode == 1
    assert "the agent still runs" in done.stderr
    assert _seen(bare)["files"] == before["files"]
    assert _seen(bare)["bridges"] == before["bridges"]


def test_what_others_changed_since_stays(bare: TestNode) -> None:
    bare.start_agent()
    bare.wait(lambda: "2" in bare.run("sysctl", "-n", "net.ipv6.conf.uplink0.accept_ra"), "it")
    bare.run("sysctl", "-qw", "net.ipv6.conf.uplink0.accept_ra=0")
    bare.ovs.vsctl("set-ssl", "/their/key", "/their/certificate", "/their/authority")
    bare.stop_agent()
    done = _uninstall(bare)
    assert done.returncode == 0, done.stderr
    assert bare.run("sysctl", "-n", "net.ipv6.conf.uplink0.accept_ra") == "0\n"
    assert bare.run("sysctl", "-n", "net.ipv4.ip_forward") == "0\n"
    assert _rows(bare, "SSL", "private_key") == [["/their/key"]]


def test_it_goes_on_where_it_could_not(bare: TestNode) -> None:
    """Without the switch's answer the trail stays, and with it all that is needed to go on."""
    before = _seen(bare)
    bare.start_agent()
    bare.stop_agent()
    bare.ovs.stop_switch()
    done = _uninstall(bare)
    assert done.returncode == 1
    assert "ovs-vswitchd has not taken br-int away" in done.stderr
    assert bare.state.parent.exists()
    assert not bare.plugin.exists()
    bare.ovs.start_switch()
    assert _uninstall(bare).returncode == 0
    assert _seen(bare) == before
