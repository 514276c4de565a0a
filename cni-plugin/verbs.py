"""The verbs of CNI 1.1: a call in, exit status and standard output out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ovsnet import logs
from ovsnet.cni import conf, delegate, result
from ovsnet.cni.check import Checker
from ovsnet.cni.conf import Request, Verb
from ovsnet.cni.endpoint import Endpoints
from ovsnet.cni.errors import CniError, Code
from ovsnet.cni.server import Answer, Call
from ovsnet.cni.teardown import Teardown

_log = logs.get("cni")


class Plugin:
    """Answers calls."""

    def __init__(self, endpoints: Endpoints, teardown: Teardown, checker: Checker) -> None:
        self._endpoints = endpoints
        self._teardown = teardown
        self._checker = checker

    def answer(self, call: Call) -> Answer:
        """Carry out one call."""
        version = conf.VERSIONS[-1]
        try:
            if conf.parse_verb(call.environment) is Verb.VERSION:
                return 0, _version(call.stdin)
            version = _reply_version(call.stdin)
            request = conf.parse(call.environment, call.stdin)
            return 0, self._carry_out(request, call)
        except CniError as error:
            _log.warning(
                "verb failed",
                verb=call.environment.get("CNI_COMMAND", ""),
                container=call.environment.get("CNI_CONTAINERID", ""),
                code=int(error.code),
                message=error.message,
            )
            return 1, error.render(version)
        except Exception as error:
            _log.exception("verb failed", verb=call.environment.get("CNI_COMMAND", ""))
            fault = CniError(Code.INTERNAL, f"the agent failed: {type(error).__name__}: {error}")
            return 1, fault.render(version)

    def _carry_out(self, request: Request, call: Call) -> bytes:
        match request.verb:
            case Verb.ADD:
                made = self._endpoints.add(request, _namespace(request, call), call.given_up)
                return _print(result.convert(made, request.conf.version))
            case Verb.DEL:
                self._teardown.delete(request)
            case Verb.CHECK:
                self._checker.check(request, _namespace(request, call))
            case Verb.GC:
                self._collect(request)
            case Verb.STATUS:
                self._checker.status(request)
        return b""

    def _collect(self, request: Request) -> None:
        self._teardown.collect(request.conf.name, request.conf.valid_attachments)
        if request.conf.ipam is not None:
            delegate.of_request(request).collect(request.conf.version)


def _print(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value).encode() + b"\n"


def _reply_version(stdin: bytes) -> str:
    """The version that an error is told in: the asked one where it is spoken."""
    try:
        return conf.parse_version(conf.decode(stdin))
    except CniError:
        return conf.VERSIONS[-1]


def _version(stdin: bytes) -> bytes:
    """VERSION, which answers whatever version it is asked in."""
    asked = conf.decode(stdin).get("cniVersion") if stdin.strip() else None
    version = asked if isinstance(asked, str) and asked else conf.VERSIONS[-1]
    return _print({"cniVersion": version, "supportedVersions": conf.VERSIONS})


def _namespace(request: Request, call: Call) -> int:
    if call.namespace is None:
        raise CniError(
            Code.UNKNOWN_CONTAINER,
            f"CNI_NETNS is {request.netns!r}, which cannot be opened; expected the container's"
            " network namespace, which seems to be gone",
        )
    return call.namespace
