from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from ovsnet.sandbox.kubelet import runtime
from ovsnet.sandbox.kubelet.runtime import PluginError, Runtime
from ovsnet.sandbox.kubelet.sandboxes import Target

TARGET = Target("c" * 64, "/run/netns/x", "shop", "web-0", "uid-1")

PLUGIN = f"""#!{sys.executable} -IS
import json, os, sys
stdin = json.load(sys.stdin)
here = os.path.dirname(os.path.abspath(__file__))
with open(here + "/record", "a") as record:
    record.write(json.dumps([stdin["type"], os.environ["CNI_COMMAND"], stdin]) + "\\n")
mode = stdin.get("mode")
if mode == "error":
    print(json.dumps({{"cniVersion": "1.0.0", "code": 11, "msg": "later", "details": "busy"}}))
    sys.exit(1)
if mode == "crash":
    sys.stderr.write("oh dear")
    sys.exit(3)
if mode == "noise":
    print("hello")
elif os.environ["CNI_COMMAND"] == "ADD":
    previous = stdin.get("prevResult", {{"ips": []}})
    previous["ips"].append({{"address": stdin["type"]}})
    print(json.dumps(previous))
"""


class Network:
    def __init__(self, root: Path, version: str = "1.1.0", **modes: str) -> None:
        self.plugins = root / "bin"
        self.configuration = root / "net.d"
        self.plugins.mkdir()
        self.configuration.mkdir()
        plugins = []
        for name in ("first", "second"):
            path = self.plugins / name
            path.write_text(PLUGIN)
            path.chmod(0o755)
            plugins.append({"type": name, "mode": modes.get(name, "")})
        conf = {"cniVersion": version, "name": "net", "plugins": plugins}
        (self.configuration / "10.conflist").write_text(json.dumps(conf))
        self.runtime = Runtime(self.configuration, self.plugins)

    def record(self) -> list[tuple[str, str, Any]]:
        path = self.plugins / "record"
        lines = path.read_text().splitlines() if path.exists() else []
        return [tuple(json.loads(line)) for line in lines]


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


def test_add_hands_the_result_on_and_del_goes_backwards(tmp_path: Path) -> None:
    network = Network(tmp_path)
    result = run(network.runtime.add(TARGET, {}))
    assert [ip["address"] for ip in result["ips"]] == ["first", "second"]
    run(network.runtime.check(TARGET, result, {}))
    run(network.runtime.delete(TARGET, result, {}))
    steps = [(plugin, verb) for plugin, verb, _ in network.record()]
    assert steps == [
        ("first", "ADD"), ("second", "ADD"),
        ("first", "CHECK"), ("second", "CHECK"),
        ("second", "DEL"), ("first", "DEL"),
    ]  # fmt: skip
    assert all(stdin["prevResult"] == result for _, verb, stdin in network.record()[2:])


def test_del_after_an_add_that_never_ended_has_no_result(tmp_path: Path) -> None:
    network = Network(tmp_path)
    run(network.runtime.delete(TARGET, None, {}))
    assert all("prevResult" not in stdin for _, _, stdin in network.record())


def test_a_failed_plugin_ends_the_chain_with_its_own_words(tmp_path: Path) -> None:
    network = Network(tmp_path, first="error")
    with pytest.raises(PluginError, match="later: busy") as caught:
        run(network.runtime.add(TARGET, {}))
    assert caught.value.code == 11
    assert [plugin for plugin, _, _ in network.record()] == ["first"]


@pytest.mark.parametrize(("mode", "words"), [("crash", "oh dear"), ("noise", "no JSON")])
def test_a_plugin_that_breaks_the_rules(tmp_path: Path, mode: str, words: str) -> None:
    network = Network(tmp_path, second=mode)
    with pytest.raises(PluginError, match=words):
        run(network.runtime.add(TARGET, {}))


def test_a_plugin_that_is_missing(tmp_path: Path) -> None:
    network = Network(tmp_path)
    (network.plugins / "second").unlink()
    with pytest.raises(PluginError, match="cannot execute"):
        run(network.runtime.add(TARGET, {}))


def test_a_plugin_that_hangs_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network(tmp_path)
    (network.plugins / "first").write_text("#!/bin/sh\nexec sleep 1000\n")
    monkeypatch.setattr(runtime, "_EXECUTION_SECONDS", 0.2)
    with pytest.raises(PluginError, match="took more than"):
        run(network.runtime.add(TARGET, {}))


def test_gc_and_status_only_where_they_exist(tmp_path: Path) -> None:
    for version, expected in (("1.0.0", []), ("1.1.0", ["STATUS", "STATUS", "GC", "GC"])):
        root = tmp_path / version
        root.mkdir()
        network = Network(root, version)
        run(network.runtime.status())
        run(network.runtime.gc(["a"]))
        assert [verb for _, verb, _ in network.record()] == expected
    _, _, stdin = network.record()[-1]
    assert stdin["cni.dev/valid-attachments"] == [{"containerID": "a", "ifname": "eth0"}]


def test_the_environment_of_a_container() -> None:
    assert runtime.variables("ADD", TARGET, Path("/opt/cni/bin")) == {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": "c" * 64,
        "CNI_NETNS": "/run/netns/x",
        "CNI_IFNAME": "eth0",
        "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;"
        f"K8S_POD_INFRA_CONTAINER_ID={'c' * 64};K8S_POD_UID=uid-1",
        "CNI_PATH": "/opt/cni/bin",
    }


def test_the_environment_of_a_verb_without_a_container() -> None:
    found = runtime.variables("GC", None, Path("/opt/cni/bin"))
    assert {name for name, value in found.items() if value} == {"CNI_COMMAND", "CNI_PATH"}
