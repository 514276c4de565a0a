"""The plugin runs where there is nothing but /proc and what the agent has brought: no libraries, no
Python.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ovsnet.cni import install, runtime

DEBIANS = Path("/usr/bin/python3.11")
MAKER = Path(__file__).parents[3] / "deploy" / "plugin_runtime.py"
REQUEST = json.dumps({"cniVersion": "1.0.0", "name": "ovsnet", "type": "ovsnet"}).encode()
ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "CNI_CONTAINERID": "abc",
    "CNI_NETNS": "/gone",
}
_ENTER = 'mount -t proc proc "$1/proc" && exec chroot "$1" "$2"'

pytestmark = pytest.mark.skipif(not DEBIANS.exists(), reason="needs Debian's Python 3.11")


@dataclass(frozen=True)
class Host:
    """A host's root directory, in which paths are as they are outside of it."""

    root: Path
    bin_dir: Path
    socket: Path

    def inside(self, path: Path) -> Path:
        return self.root / path.relative_to("/")

    def call(self, verb: str, **environment: str) -> tuple[int, dict[str, object]]:
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", _ENTER, "-", self.root, self.bin_dir / "ovsnet"],
            env=ENVIRONMENT | {"CNI_COMMAND": verb} | environment,
            input=REQUEST,
            capture_output=True,
            check=False,
            timeout=60,
        )
        assert done.stderr == b""
        return done.returncode, json.loads(done.stdout)


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("image") / "runtime"
    subprocess.run([DEBIANS, MAKER, directory], check=True)
    return directory


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A short one, for the sake of the socket's path."""
    with tempfile.TemporaryDirectory(prefix="ovsnet-") as name:
        yield Path(name)


@pytest.fixture
def host(tmp_path: Path, shipped: Path) -> Host:
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    made = Host(tmp_path / "root", bin_dir, tmp_path / "agent.sock")
    interpreter = runtime.interpreter("", bin_dir, shipped)
    install.write(bin_dir / "ovsnet", install.plugin_text(interpreter, str(made.socket), 5), 0o755)
    shutil.copytree(bin_dir, made.inside(bin_dir))
    (made.root / "proc").mkdir()
    assert {p.name for p in made.root.iterdir()} == {tmp_path.parts[1], "proc"}
    return made


def test_without_an_agent_it_says_so(host: Host) -> None:
    status, said = host.call("ADD")
    assert (status, said["code"], said["cniVersion"]) == (1, 11, "1.0.0")
    assert "the node agent is not running" in str(said["msg"])


def test_it_tells_its_versions(host: Host) -> None:
    status, said = host.call("VERSION")
    assert (status, said["supportedVersions"]) == (0, ["0.3.1", "0.4.0", "1.0.0", "1.1.0"])


@pytest.mark.parametrize("locale", ["de_DE.ISO-8859-15", "ja_JP.EUC-JP", "C"])
def test_a_runtimes_locale_changes_nothing(host: Host, locale: str) -> None:
    status, _ = host.call("VERSION", LC_ALL=locale, PYTHONHOME="/nowhere", PYTHONPATH="/nowhere")
    assert status == 0


def test_it_hands_requests_to_the_agent(host: Host) -> None:
    heard: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(host.inside(host.socket)))
        listener.listen()

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                while chunk := connection.recv(65536):
                    heard.append(chunk)
                connection.sendall(b'0 15\n{"answer": 4.2}')

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        assert host.call("ADD") == (0, {"answer": 4.2})
        thread.join(10)
    assert b"CNI_COMMAND=ADD\0" in b"".join(heard)
    assert b"".join(heard).endswith(b"\0" + REQUEST)


def test_it_is_brought_once_and_the_former_one_goes(tmp_path: Path, shipped: Path) -> None:
    first = runtime.bring(shipped, tmp_path)
    there = first.stat().st_ino
    assert runtime.bring(shipped, tmp_path) == first
    assert first.stat().st_ino == there
    other = tmp_path / "other"
    shutil.copytree(shipped, other)
    (other / "lib" / "more").write_text("more")
    second = runtime.bring(other, tmp_path)
    assert first.exists()
    assert second != first
    runtime.remove_others(str(second), tmp_path)
    assert not first.parent.parent.exists()
    assert subprocess.run([second, "-ISXutf8", "-c", "import json"], check=False).returncode == 0


def test_half_a_runtime_is_not_taken_for_one(tmp_path: Path, shipped: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(shipped, broken)
    (broken / "bin" / "python3").write_text("no program")
    with pytest.raises(runtime.BringError, match="patchelf"):
        runtime.bring(broken, tmp_path)
    assert not list(tmp_path.glob(".ovsnet-python-*"))
