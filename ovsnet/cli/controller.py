"""How the command line finds a controller, and asks it."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from ovsnet.sandbox import layout, netns

UNREACHABLE = 3
"""Exit status: the controller does not answer."""

DEFAULT_URL = "http://127.0.0.1:9095"
VARIABLE = "OVSNET_CONTROLLER"
_SECONDS = 10.0
_BAD_REQUEST = 400

F = TypeVar("F", bound=Callable[..., Any])


class UnreachableError(click.ClickException):
    """No controller answers where we looked; the message says where, and what else to try."""

    exit_code = UNREACHABLE


class RefusedError(click.ClickException):
    """The controller cannot make sense of what was asked; the message is its own."""

    exit_code = click.UsageError.exit_code


class Target(msgspec.Struct, frozen=True):
    """Where a controller is, and how we know: a URL, perhaps within a network namespace."""

    url: str
    origin: str
    netns: Path | None = None

    def __str__(self) -> str:
        return f"{self.url} ({self.origin})"


class _Endpoint(msgspec.Struct, frozen=True):
    url: str
    netns: str


class _Sandbox(msgspec.Struct, frozen=True):
    controller: _Endpoint


class _Error(msgspec.Struct, frozen=True):
    error: str


def option(command: F) -> F:
    """The option by which a command is told where the controller is."""
    return click.option(
        "--controller",
        "controller_url",
        metavar="URL",
        envvar=VARIABLE,
        show_envvar=True,
        help=f"Where the controller serves HTTP. [default: that of a running sandbox, else "
        f"{DEFAULT_URL}]",
    )(command)


def locate(url: str | None, environment: Mapping[str, str] = os.environ) -> Target:
    """The controller that was named, else that of a running sandbox, else the usual address.

    Raises:
        click.BadParameter: what was named is no HTTP URL.
    """
    if url and not url.startswith(("http://", "https://")):
        raise click.BadParameter(
            f"{url!r}: expected a URL such as {DEFAULT_URL}", param_hint="--controller"
        )
    if url:
        return Target(url.rstrip("/"), "as it was given")
    sandbox = _sandbox(layout.from_environment(environment).state)
    if sandbox is not None:
        return Target(sandbox.url.rstrip("/"), "that of the sandbox", Path(sandbox.netns))
    return Target(DEFAULT_URL, "the usual address")


def _sandbox(state: Path) -> _Endpoint | None:
    """The controller of the sandbox that wrote this state file, None if there is none."""
    try:
        return msgspec.json.decode(state.read_bytes(), type=_Sandbox).controller
    except (OSError, msgspec.MsgspecError):
        return None


def fetch(target: Target, path: str, seconds: float = _SECONDS, body: bytes | None = None) -> bytes:
    """What the controller serves at `path`, or answers to `body` there. No proxy is used: it is a
    local address.

    Raises:
        UnreachableError: it does not answer, or not with a success.
        RefusedError: it says that what was asked makes no sense.
    """

    def ask() -> bytes:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        request = urllib.request.Request(target.url + path, data=body)
        if body is not None:
            request.add_header("Content-Type", "application/json")
        with opener.open(request, timeout=seconds) as answer:
            answered: bytes = answer.read()
            return answered

    try:
        return ask() if target.netns is None else netns.within(target.netns, ask)
    except urllib.error.HTTPError as error:
        said = _error(error)
        if error.code == _BAD_REQUEST and said:
            raise RefusedError(said) from error
        reason = f"it answers {error.code} to {path}" + (f": {said}" if said else "")
    except urllib.error.URLError as error:
        reason = str(error.reason)
    except (OSError, HTTPException, ValueError) as error:
        reason = str(error) or type(error).__name__
    raise UnreachableError(
        f"cannot reach the controller at {target}: {reason}. "
        f"Name another with --controller or {VARIABLE}."
    )


def _error(answer: urllib.error.HTTPError) -> str:
    """What the controller says is wrong; nothing if it is no controller that answers."""
    try:
        return msgspec.json.decode(answer.read(), type=_Error).error
    except (OSError, HTTPException, msgspec.MsgspecError):
        return ""
