"""Building cnitool, and our small program beside it, from pinned source into a cache."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).parent
CNITOOL = "github.com/containernetworking/cni/cnitool"
LEAST_GO = (1, 21)
_BUILD_SECONDS = 600


class MissingError(Exception):
    """Something that is needed is not there. The text says what."""


class Programs(NamedTuple):
    """The programs that were built."""

    cnitool: Path
    libcni: Path


def cache() -> Path:
    """The directory that built programs are kept in."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "ovsnet" / "conformance"


def _go() -> str:
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if go is None:
        raise MissingError(
            "Go is not installed; it is needed to build cnitool. Get 1.21 or later from"
            " https://go.dev/dl/ or with apt-get install -t bookworm-backports golang-go"
        )
    # Asked outside of any module, so that Go does not fetch another version of itself to answer.
    said = subprocess.run(
        [go, "env", "GOVERSION"],
        env={**os.environ, "GOTOOLCHAIN": "local"},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    numbers = re.match(r"go(\d+)\.(\d+)", said)
    if numbers is None or (int(numbers[1]), int(numbers[2])) < LEAST_GO:
        raise MissingError(f"{go} is {said or 'of no known version'}; go1.21 or later is needed")
    return go


def build() -> Programs:
    """Build the programs, unless the very same source was built before.

    Raises:
        MissingError: Go is missing or too old, or the source cannot be fetched or built.
    """
    go = _go()
    files = [SOURCE / name for name in ("go.mod", "go.sum", "libcni/main.go")]
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()[:16]
    target = cache() / digest
    programs = Programs(target / "cnitool", target / "libcni")
    if all(path.exists() for path in programs):
        return programs
    partial = target.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    command = [go, "build", "-mod=readonly", "-trimpath", "-o", f"{partial}/", CNITOOL, "./libcni"]
    try:
        subprocess.run(command, cwd=SOURCE, check=True, timeout=_BUILD_SECONDS)
    except subprocess.TimeoutExpired:
        raise MissingError(f"cnitool was not built within {_BUILD_SECONDS} s") from None
    except subprocess.CalledProcessError as error:
        raise MissingError(
            f"cnitool could not be built: go ended with {error.returncode}"
        ) from None
    finally:
        if not (partial / "libcni").exists():
            shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
    return programs
