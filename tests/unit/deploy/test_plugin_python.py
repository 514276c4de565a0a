"""Which Python runs the plugin, and what is put into the plugins' directory for it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from ovsnet.cni import runtime

PROGRAM = Path("/usr/bin/true")
"""Stands for the interpreter: a program that needs a loader."""


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    directory = tmp_path / "image"
    for folder in ("bin", "lib"):
        (directory / folder).mkdir(parents=True)
    shutil.copy(PROGRAM, directory / "bin" / "python3")
    (directory / "lib" / "json.py").write_text("version = 1\n")
    return directory


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    directory = tmp_path / "plugins"
    directory.mkdir()
    (directory / "bridge").write_text("somebody else's")
    return directory


def loader(program: Path) -> str:
    command = ["patchelf", "--print-interpreter", str(program)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def there(plugins: Path) -> set[str]:
    return {path.name for path in plugins.iterdir()} - {"bridge"}


def test_the_configured_one_comes_first(plugins: Path, shipped: Path) -> None:
    assert runtime.interpreter("/opt/python", plugins, shipped) == "/opt/python"
    assert there(plugins) == set()


def test_without_one_in_the_image_it_is_the_systems(plugins: Path) -> None:
    assert runtime.interpreter("", plugins, plugins / "none") == runtime.SYSTEM
    assert there(plugins) == set()


def test_the_images_is_brought_with_its_loader(plugins: Path, shipped: Path) -> None:
    brought = Path(runtime.interpreter("", plugins, shipped))
    own = brought.parents[1]
    assert own.parent == plugins
    assert loader(brought) == str(own / "lib" / "ld.so")
    assert (own / "lib" / "json.py").read_text() == "version = 1\n"
    assert loader(shipped / "bin" / "python3") != loader(brought), "the image's own is as it was"


def test_what_is_there_is_not_touched(plugins: Path, shipped: Path) -> None:
    brought = runtime.bring(shipped, plugins)
    before = brought.stat()
    assert runtime.bring(shipped, plugins) == brought
    assert brought.stat() == before


@pytest.mark.parametrize("changed", ["content", "name", "added"])
def test_another_content_goes_beside_it(plugins: Path, shipped: Path, changed: str) -> None:
    first = runtime.bring(shipped, plugins)
    module = shipped / "lib" / "json.py"
    if changed == "content":
        module.write_text("version = 2\n")
    elif changed == "name":
        module.rename(shipped / "lib" / "josn.py")
    else:
        (shipped / "lib" / "more.py").touch()
    second = runtime.bring(shipped, plugins)
    assert second != first
    assert first.exists()


def test_what_an_interrupted_one_left_does_not_disturb(plugins: Path, shipped: Path) -> None:
    half = plugins / ".ovsnet-python-new"
    half.mkdir()
    (half / "half").touch()
    brought = runtime.bring(shipped, plugins)
    assert there(plugins) == {brought.parents[1].name}
    assert not (brought.parents[1] / "half").exists()


def test_one_that_cannot_be_brought_leaves_nothing(plugins: Path, shipped: Path) -> None:
    (shipped / "bin" / "python3").write_text("#!/bin/sh\n")
    with pytest.raises(runtime.BringError, match="patchelf"):
        runtime.interpreter("", plugins, shipped)
    assert there(plugins) == set()


def test_others_go_and_the_wanted_one_stays(plugins: Path, shipped: Path) -> None:
    first = runtime.bring(shipped, plugins)
    (shipped / "lib" / "more.py").touch()
    second = runtime.bring(shipped, plugins)
    assert runtime.remove_others(str(second), plugins) == [first.parents[1]]
    assert there(plugins) == {second.parents[1].name}
    assert runtime.remove_others(str(second), plugins) == []


def test_with_another_interpreter_all_go(plugins: Path, shipped: Path) -> None:
    runtime.bring(shipped, plugins)
    runtime.remove_others(runtime.SYSTEM, plugins)
    assert there(plugins) == set()
    assert (plugins / "bridge").exists()
