"""What an installed network consists of: the manifests of `deploy/`, as kubectl renders them."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path
from typing import Any

import yaml

DIRECTORY = Path(__file__).parents[1] / "deploy"


@functools.cache
def objects() -> tuple[dict[str, Any], ...]:
    """All objects that `kubectl apply -k deploy/` makes."""
    rendered = subprocess.run(
        ("kubectl", "kustomize", DIRECTORY), capture_output=True, text=True, check=True
    ).stdout
    return tuple(yaml.safe_load_all(rendered))
