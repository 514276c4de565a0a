"""Reading the bodies of requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import yaml
from aiohttp import web

from ovsnet.sandbox.apiserver.deletion import Deletion
from ovsnet.sandbox.apiserver.protobuf import ProtobufError, decode
from ovsnet.sandbox.apiserver.registry import FieldValidation, Write
from ovsnet.sandbox.apiserver.request import flag, number
from ovsnet.sandbox.apiserver.status import bad_request

PROTOBUF = "application/vnd.kubernetes.protobuf"
"""Media type of Kubernetes' own encoding."""

_YAML = frozenset({"application/yaml", "application/apply-patch+yaml", "text/yaml"})


def media_type(request: web.Request) -> str:
    """The body's media type without parameters."""
    return request.headers.get("Content-Type", "").partition(";")[0].strip()


async def read_body(request: web.Request) -> Any:
    """The decoded body; None if there is none. Raises ApiError (400)."""
    media = media_type(request)
    body = await request.read()
    if not body:
        return None
    try:
        if media == PROTOBUF:
            return decode(body)
        if media in _YAML:
            return yaml.load(body, Loader=_Loader)
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, yaml.YAMLError, UnicodeDecodeError, ProtobufError) as error:
        raise bad_request(f"the body cannot be decoded: {error}") from None


class _Loader(yaml.SafeLoader):
    """YAML as Kubernetes reads it: a time is text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def write_options(request: web.Request) -> Write:
    """How a request wants to write. Raises ApiError (400)."""
    query = request.query
    dry_run = query.getall("dryRun", [])
    if any(value != "All" for value in dry_run):
        raise bad_request(f"dryRun: expected All, got {dry_run}")
    manager = query.get("fieldManager") or request.headers.get("User-Agent", "").partition("/")[0]
    try:
        validation = FieldValidation(query.get("fieldValidation") or "Warn")
    except ValueError as error:
        raise bad_request(f"fieldValidation: {error}") from None
    return Write(manager or "unknown", bool(dry_run), validation)


def deletion_options(body: Any, query: Mapping[str, str], write: Write) -> Deletion:
    """DeleteOptions from the body, and from the query where the body is silent.

    A dry run that the body asks for is noted in `write`. Raises ApiError (400).
    """
    given = body if isinstance(body, dict) else {}
    grace = given.get("gracePeriodSeconds")
    if grace is None:
        grace = number(query, "gracePeriodSeconds")
    if grace is not None and (not isinstance(grace, int) or grace < 0):
        raise bad_request(f"gracePeriodSeconds: expected zero or more seconds, got {grace!r}")
    propagation = given.get("propagationPolicy") or query.get("propagationPolicy")
    if propagation is None and (given.get("orphanDependents") or flag(query, "orphanDependents")):
        propagation = "Orphan"
    if propagation not in (None, "Background", "Foreground", "Orphan"):
        raise bad_request(
            f"propagationPolicy: expected Background, Foreground or Orphan, got {propagation!r}"
        )
    if given.get("dryRun"):
        if given["dryRun"] != ["All"]:
            raise bad_request(f"dryRun: expected All, got {given['dryRun']}")
        write.dry_run = True
    preconditions = given.get("preconditions") or {}
    return Deletion(
        grace=grace,
        uid=preconditions.get("uid"),
        resource_version=preconditions.get("resourceVersion"),
        propagation=propagation or "Background",
    )
