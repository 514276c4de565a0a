from __future__ import annotations

import json
from pathlib import Path

import pytest

from ovsnet.sandbox.kubelet import conflist
from ovsnet.sandbox.kubelet.conflist import ConflistError

BRIDGE = {"type": "bridge", "isGateway": True}
PORTMAP = {"type": "portmap", "capabilities": {"portMappings": True, "bandwidth": False}}
LIST = {"cniVersion": "1.1.0", "name": "net", "plugins": [BRIDGE, PORTMAP]}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no JSON"),
        ("[]", "object"),
        ("{}", "plugins"),
        ('{"name": "n", "plugins": []}', "at least one plugin"),
        ('{"name": "n", "plugins": [{}]}', "type"),
        ('{"plugins": [{"type": "x"}]}', "name"),
        ('{"name": "n", "cniVersion": "x", "plugins": [{"type": "x"}]}', "cniVersion"),
    ],
)
def test_what_is_wrong_is_named(text: str, words: str) -> None:
    with pytest.raises(ConflistError, match=words):
        conflist.parse(text)


def test_a_single_configuration_is_a_list_of_one() -> None:
    network = conflist.parse(json.dumps({"name": "net", "type": "bridge", "cniVersion": "0.3.1"}))
    assert [plugin["type"] for plugin in network.plugins] == ["bridge"]
    assert not network.passes_result_to_del


@pytest.mark.parametrize(
    ("version", "result_to_del", "gc_and_status"),
    [
        ("0.3.1", False, False),
        ("0.4.0", True, False),
        ("1.0.0", True, False),
        ("1.1.0", True, True),
    ],
)
def test_what_a_version_brings(version: str, result_to_del: bool, gc_and_status: bool) -> None:
    network = conflist.parse(json.dumps(LIST | {"cniVersion": version}))
    assert network.passes_result_to_del == result_to_del
    assert network.has_gc_and_status == gc_and_status


def test_the_latest_version_that_both_know_is_spoken() -> None:
    several = LIST | {"cniVersion": "1.0.0", "cniVersions": ["0.4.0", "1.1.0", "9.0.0"]}
    assert conflist.parse(json.dumps(several)).version == "1.1.0"
    assert conflist.parse(json.dumps(LIST | {"cniVersion": "1.0.0"})).version == "1.0.0"


def test_the_first_valid_file_by_name_is_the_network(tmp_path: Path) -> None:
    (tmp_path / "05-broken.conflist").write_text("{")
    (tmp_path / "20-later.conflist").write_text(json.dumps(LIST | {"name": "later"}))
    (tmp_path / "10-first.conflist").write_text(json.dumps(LIST | {"name": "first"}))
    (tmp_path / "00-ignored.txt").write_text(json.dumps(LIST | {"name": "ignored"}))
    assert conflist.load(tmp_path).name == "first"


def test_a_directory_without_a_network(tmp_path: Path) -> None:
    with pytest.raises(ConflistError, match="holds no network configuration"):
        conflist.load(tmp_path)
    (tmp_path / "10.conflist").write_text("{")
    with pytest.raises(ConflistError, match=r"10\.conflist: no JSON"):
        conflist.load(tmp_path)
    with pytest.raises(ConflistError):
        conflist.load(tmp_path / "missing")


def test_what_a_plugin_reads() -> None:
    network = conflist.parse(json.dumps(LIST))
    offered = {"portMappings": [{"hostPort": 1}], "bandwidth": {"ingressRate": 1}, "dns": {}}
    first = conflist.plugin_configuration(network, BRIDGE, None, offered)
    assert first == {**BRIDGE, "name": "net", "cniVersion": "1.1.0"}
    second = conflist.plugin_configuration(network, PORTMAP, {"ips": []}, offered)
    assert second["prevResult"] == {"ips": []}
    # Only what the plugin declares, and declares to have.
    assert second["runtimeConfig"] == {"portMappings": [{"hostPort": 1}]}


def test_the_attachments_that_gc_keeps() -> None:
    keys = conflist.attachments(["a", "b"], "eth0")
    expected = [{"containerID": "a", "ifname": "eth0"}, {"containerID": "b", "ifname": "eth0"}]
    assert keys["cni.dev/valid-attachments"] == expected
