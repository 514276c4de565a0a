from __future__ import annotations

import threading
from pathlib import Path

import pytest

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
