"""Writes the Python that runs the plugin on hosts that have none: `plugin_runtime.py DIRECTORY`.

Run by the interpreter that is to be copied, Debian's own, which has sockets built in. Into the
directory go that interpreter, the libraries that it is linked with, their loader, and the few
modules that the plugin imports. Libraries are found beside the interpreter, wherever it is put;
but the kernel wants to know the loader's whole path, so who puts it somewhere has to write that
into it (`patchelf --set-interpreter`; see ovsnet.cni.runtime).
"""

from __future__ import annotations

import py_compile
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

_WANTED = "__future__, json"
_LANDMARK = "os"
"""By this module the interpreter knows where its others are (getpath.py)."""


def modules(interpreter: Path) -> Iterator[Path]:
    """The files of the modules that are loaded when the plugin has imported what it wants."""
    script = (
        f"import sys, {_WANTED}, {_LANDMARK}\n"
        "for module in list(sys.modules.values()):\n"
        "    print(getattr(module, '__file__', None) or '')\n"
    )
    command = [interpreter, "-ISXutf8", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    yield from (Path(line) for line in done.stdout.splitlines() if line.endswith(".py"))


def libraries(interpreter: Path) -> Iterator[Path]:
    """The shared libraries of the interpreter and their loader (ldd(1))."""
    done = subprocess.run(["ldd", interpreter], capture_output=True, text=True, check=True)
    for line in done.stdout.splitlines():
        found = re.search(r"(/\S+) \(0x", line)
        if found:
            yield Path(found[1])


def write(interpreter: Path, directory: Path) -> None:
    """Write the runtime. The loader is `lib/ld.so`, the interpreter `bin/python3`."""
    library = directory / "lib"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    own = library / version
    # The interpreter complains if there is no place for modules in C, even if it needs none.
    for folder in (directory / "bin", own / "lib-dynload"):
        folder.mkdir(parents=True)
    for path in libraries(interpreter):
        name = "ld.so" if path.name.startswith("ld-linux") else path.name
        shutil.copy(path, library / name)
    standard = Path(py_compile.__file__).parent
    for path in modules(interpreter):
        target = own / path.relative_to(standard)
        target.parent.mkdir(exist_ok=True)
        shutil.copy(path, target)
        # Nobody may write beside them later, and their times do not survive the copying.
        mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
        py_compile.compile(str(target), dfile=target.name, doraise=True, invalidation_mode=mode)
    copied = directory / "bin" / "python3"
    shutil.copy(interpreter, copied)
    copied.chmod(0o755)
    # The older kind of entry, which counts for the libraries' own libraries too.
    beside = ["--force-rpath", "--set-rpath", "$ORIGIN/../lib"]
    subprocess.run(["patchelf", *beside, copied], check=True)


if __name__ == "__main__":
    write(Path(sys.executable).resolve(), Path(sys.argv[1]))
