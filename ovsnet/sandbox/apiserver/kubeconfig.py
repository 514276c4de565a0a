"""Kubeconfig files that lead clients to this server."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import yaml


def kubeconfig(url: str) -> str:
    """A kubeconfig for a server that asks for no credentials."""
    name = "ovsnet-sandbox"
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": url}}],
        "users": [{"name": name, "user": {}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }
    return yaml.safe_dump(config, sort_keys=False)


def write_kubeconfig(path: Path, url: str) -> None:
    """Write a kubeconfig whole or not at all: whoever waits for the file can use it."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    with os.fdopen(handle, "w") as file:
        file.write(kubeconfig(url))
    Path(temporary).replace(path)
