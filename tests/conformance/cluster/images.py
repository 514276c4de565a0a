"""Container images of programs that were built here, as archives that containerd imports.

An archive is an OCI image layout (image-spec v1.1, image-layout.md) in one tar file: every image
has layers, a configuration and a manifest, and an index names them.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_INDEX = "application/vnd.oci.image.index.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Image(msgspec.Struct, frozen=True):
    """An image: its full name with a tag, what it runs, and what lies in it.

    `base` is a tar file of a root file system, or None for an empty one. `files` lie on top of it:
    executables, by their path in the image.
    """

    name: str
    entrypoint: tuple[str, ...]
    command: tuple[str, ...] = ()
    base: Path | None = None
    files: Mapping[str, Path] = {}
    links: Mapping[str, str] = {}


def write(archive: Path, images: Iterable[Image]) -> None:
    """Write an archive with these images."""
    with tarfile.open(archive, "w") as tar:
        manifests = [_add(tar, image) for image in images]
        _member(tar, "oci-layout", _LAYOUT)
        index = {"schemaVersion": 2, "mediaType": _INDEX, "manifests": manifests}
        _member(tar, "index.json", json.dumps(index).encode())


def _add(tar: tarfile.TarFile, image: Image) -> dict[str, Any]:
    """Add an image's parts; its entry of the index."""
    layers = [image.base.read_bytes()] if image.base else []
    layers.append(_layer(image))
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "Entrypoint": list(image.entrypoint),
            "Cmd": list(image.command),
            "Env": [f"PATH={_PATH}"],
        },
        "rootfs": {
            "type": "layers",
            "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers],
        },
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": _blob(tar, _CONFIG, json.dumps(config).encode()),
        "layers": [_blob(tar, _LAYER, layer) for layer in layers],
    }
    entry = _blob(tar, _MANIFEST, json.dumps(manifest).encode())
    return entry | {"annotations": {"io.containerd.image.name": image.name}}


def _layer(image: Image) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, source in image.files.items():
            _member(tar, path.lstrip("/"), source.read_bytes(), 0o755)
        for path, target in image.links.items():
            _link(tar, path.lstrip("/"), target)
    return buffer.getvalue()


def _link(tar: tarfile.TarFile, name: str, target: str) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    tar.addfile(info)


def _blob(tar: tarfile.TarFile, kind: str, content: bytes) -> dict[str, Any]:
    """Add a blob; its descriptor."""
    name = hashlib.sha256(content).hexdigest()
    # Two images may share one; the second copy in the archive would be the same file.
    if f"blobs/sha256/{name}" not in tar.getnames():
        _member(tar, f"blobs/sha256/{name}", content)
    return {"mediaType": kind, "digest": f"sha256:{name}", "size": len(content)}


def _member(tar: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), mode
    tar.addfile(info, io.BytesIO(content))
