from __future__ import annotations

import threading
from pathlib import Path

import pytest

from ovsnet import names
from ovsnet.cni import config
from ovsnet.cni.config import Config, ConfigError
from ovsnet.cni.locks import Busy, KeyedLocks


def load(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "agent.toml"
    path.write_text(text)
    return config.load(path)


def test_an_empty_file_is_all_defaults(tmp_path: Path):
    assert load(tmp_path, "") == Config()


def test_the_explanation_is_a_file_with_all_defaults(tmp_path: Path):
    text = config.explain()
    assert load(tmp_path, text) == Config()
    for option in Config.__struct_fields__:
        assert f"\n{option} = " in f"\n{text}"
    comments = [line for line in text.splitlines() if line.startswith("# ")]
    assert len(comments) == len(Config.__struct_fields__)
    assert all(len(comment) > 10 for comment in comments)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("brigde = 'x'", "brigde"),
        ("mtu = -1", "mtu"),
        ("mtu = 'big'", "mtu"),
        ("deadline = 0", "deadline"),
        ("datapath = 'fast'", "datapath"),
        ("pod_cidrs = ['10.0.0.0/24', '10.0.1.0/24']", "two podCIDRs"),
        ("cluster_cidrs = ['ten']", "ten"),
        ("services = ['10.96.0.1/16']", "services: 10.96.0.1/16 has host bits"),
        ("services = '10.96.0.0/16'", "services"),
        ("external = ['lan']", "external: 'lan'"),
        ("external = ['0.0.0.0/0']", "external: 0.0.0.0/0 is everything"),
        ("external = ['::/0']", "external: ::/0 is everything"),
        ("external = ['fe80::/64']", "external: fe80::/64 has no addresses that are routed"),
        ("services = ['127.0.0.0/8']", "services: 127.0.0.0/8 has no"),
        ("services = ['224.1.0.0/16']", "services: 224.1.0.0/16 has no"),
        ("node_ports = '30000'", "node_ports: '30000'; expected FIRST-LAST"),
        ("node_ports = '32767-30000'", "node_ports"),
        ("node_ports = '0-100'", "node_ports"),
        ("node_ports = '30000-65536'", "node_ports"),
        ("node_ports = '-5'", "node_ports"),
        ("node_ports = '1-2-3'", "node_ports"),
        ("node_ports = 'off'", "node_ports"),
        ("node_ports = 30000", "node_ports"),
        ("node_ports = '4000-5000'", "node_ports: '4000-5000' holds tunnel_port 4789"),
        ("node_ports = '6000-7000'\ntunnel_type = 'geneve'", "tunnel_port 6081"),
        ("node_ports = '6000-7000'\ntunnel_port = 6999", "tunnel_port 6999"),
        ("tunnel_type = 'gre'", "tunnel_type"),
        ("controllers = ['192.0.2.1']", "controllers"),
        ("agents_urls = ['192.0.2.1:9096']", "agents_urls"),
        ("agents_urls = ['tcp://192.0.2.1:9096']", "agents_urls"),
        ("agents_urls = ['http://:9096']", "agents_urls"),
        ("agents_urls = ['http://192.0.2.1:port']", "port"),
        ("chain = ['firewall']", "chain"),
        ("= 3", "Invalid"),
    ],
)
def test_a_wrong_option_is_named(tmp_path: Path, text: str, named: str):
    with pytest.raises(ConfigError, match=named):
        load(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "ports"),
    [
        ("", names.NODE_PORTS),
        ("node_ports = '80-443'", (80, 443)),
        ("node_ports = '30000-30000'", (30000, 30000)),
        ("node_ports = '1-65535'\ntunnel = false", (1, 65535)),
        ("node_ports = ''", None),
        ("node_ports = 'none'", None),
    ],
)
def test_which_node_ports_are_redirected(tmp_path: Path, text: str, ports: tuple | None):
    assert load(tmp_path, text).redirected_ports == ports


def test_external_ranges_are_services_too(tmp_path: Path):
    text = "services = ['10.96.0.0/16', 'fd00:96::/112']\nexternal = ['198.51.100.0/24']"
    found = [str(network) for network in load(tmp_path, text).service_ranges]
    assert found == ["10.96.0.0/16", "fd00:96::/112", "198.51.100.0/24"]
    assert load(tmp_path, "services = []").service_ranges == ()


def test_a_missing_file(tmp_path: Path):
    with pytest.raises(ConfigError, match="No such file"):
        config.load(tmp_path / "none")


def test_one_key_at_a_time_and_different_keys_at_once():
    locks = KeyedLocks()
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with locks.held("a"):
            inside.set()
            leave.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    assert inside.wait(10)
    with pytest.raises(Busy), locks.held("a", 0):
        pass
    with locks.held("b", 0):
        pass
    leave.set()
    holder.join()
    with locks.held("a", 0):
        pass
    assert not locks._locks


@pytest.mark.parametrize(
    ("text", "port"),
    [
        ("", 4789),
        ("tunnel_type = 'geneve'", 6081),
        ("tunnel_type = 'geneve'\ntunnel_port = 6082", 6082),
        ("tunnel_port = 8472", 8472),
    ],
)
def test_the_overlays_port(tmp_path: Path, text: str, port: int):
    assert load(tmp_path, text).overlay_port == port
