"""NetworkPolicies in files of YAML or JSON, as people give them to kubectl."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import click
import msgspec
import yaml

GROUP = "networking.k8s.io"
_KIND, _LIST = "NetworkPolicy", "NetworkPolicyList"
_TIMESTAMP = "tag:yaml.org,2002:timestamp"


class FileError(click.ClickException):
    """A file that has something else than NetworkPolicies in it; the message says where."""

    exit_code = click.UsageError.exit_code


class _Loader(yaml.SafeLoader):
    """YAML without dates: to the API they are texts."""

    yaml_implicit_resolvers = {  # noqa: RUF012  the parent's own form
        first: [(tag, pattern) for tag, pattern in resolvers if tag != _TIMESTAMP]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def policies(text: bytes, name: str, namespace: str) -> Iterator[dict[str, Any]]:
    """The NetworkPolicies of a file of this name, those within lists too, as the API has them.

    `namespace` is that of policies that name none.

    Raises:
        FileError: it cannot be read, or has objects of another kind.
    """
    for number, document in enumerate(_documents(text, name), 1):
        if document is not None:
            yield from _policies(document, namespace, f"{name}, document {number}")


def _documents(text: bytes, name: str) -> list[Any]:
    # Not all JSON is YAML to this parser: tabs are none.
    with contextlib.suppress(msgspec.DecodeError):
        return [msgspec.json.decode(text)]
    try:
        return list(yaml.load_all(text, Loader=_Loader))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise FileError(f"{name} is neither YAML nor JSON: {error}") from error


def _policies(document: object, namespace: str, where: str) -> Iterator[dict[str, Any]]:
    if not isinstance(document, dict):
        raise FileError(f"{where}: expected an object, not {type(document).__name__}")
    kind, version = document.get("kind"), document.get("apiVersion")
    if (kind, version) == ("List", "v1") or (kind, version) == (_LIST, f"{GROUP}/v1"):
        items = document.get("items") or []
        if not isinstance(items, list):
            raise FileError(f"{where}: expected a list of items")
        plain = {"kind": _KIND, "apiVersion": version} if kind == _LIST else {}
        for number, item in enumerate(items, 1):
            place = f"{where}, item {number}"
            yield from _policies(plain | item if isinstance(item, dict) else item, namespace, place)
        return
    metadata = document.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise FileError(f"{where}: expected metadata to be an object")
    name = metadata.get("name")
    if (kind, version) != (_KIND, f"{GROUP}/v1"):
        what = f"{kind or 'an object without a kind'} ({version or 'no apiVersion'}) {name or ''}"
        raise FileError(
            f"{where} is {what.strip()}: expected {_KIND} ({GROUP}/v1) and nothing else"
        )
    if not isinstance(name, str) or not name:
        raise FileError(f"{where}: a {_KIND} without a name")
    placed = {"namespace": namespace, **{k: v for k, v in metadata.items() if v is not None}}
    yield {**document, "metadata": placed}


def as_json(found: list[dict[str, Any]], delete: bool) -> bytes:
    """What the controller is sent.

    Raises:
        FileError: something is in the policies that JSON cannot say.
    """
    try:
        return msgspec.json.encode({"policies": found, "delete": delete})
    except (TypeError, ValueError) as error:
        raise FileError(f"the policies cannot be written as JSON: {error}") from error
