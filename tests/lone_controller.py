"""A controller without any switch, and the API server that it watches."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_WITHOUT_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def fetch(url: str, method: str = "GET", body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, method=method)
    request.add_header("Content-Type", "application/json")
    with _WITHOUT_PROXY.open(request, timeout=20) as answer:
        return json.load(answer)


@contextlib.contextmanager
def lone_controller(kubeconfig: Path, log: Path) -> Iterator[str]:
    """Runs a controller of that cluster, which writes its log there; yields its URL."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with log.open("wb") as written:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "ovsnet.controller"),
                *("--kubeconfig", str(kubeconfig)),
                *("--plain", "--listen", "127.0.0.1:0", "--agents", "127.0.0.1:0"),
                *("--http", f"127.0.0.1:{port}"),
            ],
            stdout=written,
            stderr=written,
        )
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            assert process.wait(20) == 0, log.read_text()
