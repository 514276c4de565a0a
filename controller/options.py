"""The controller's options in a TOML file: each by the name that it has on the command line, with
underscores. What the command line says goes before the file.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

_ELSEWHERE = frozenset({"config", "explain_config", "help"})
"""Options that make no sense in the file."""


def read(context: click.Context, parameter: click.Parameter, path: Path | None) -> Path | None:
    """The callback of an eager option `--config`: the file's values become the defaults.

    Raises:
        click.BadParameter: the file cannot be read, is no TOML, or has an unknown option.
    """
    if path is None:
        return None
    try:
        values = tomllib.loads(path.read_text())
    except OSError as error:
        raise click.BadParameter(f"{path}: {error.strerror}", context, parameter) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"{path}: {error}", context, parameter) from None
    known = {name: option.name for name, option in _options(context.command)}
    unknown = sorted(values.keys() - known.keys())
    if unknown:
        raise click.BadParameter(f"{path}: no such option: {unknown[0]}", context, parameter)
    context.default_map = {str(known[name]): value for name, value in values.items()}
    return path


def explain(command: click.Command) -> str:
    """All options with their defaults and meaning, as a TOML file. One without a default is
    commented out.
    """
    lines: list[str] = []
    for name, option in _options(command):
        lines.append(f"# {option.help}")
        default = _plain(option)
        lines.append(f"# {name} =" if default is None else f"{name} = {_toml(default)}")
        lines.append("")
    return "\n".join(lines)


def _options(command: click.Command) -> Iterator[tuple[str, click.Option]]:
    for option in command.params:
        if isinstance(option, click.Option):
            name = option.opts[0].removeprefix("--").replace("-", "_")
            if name not in _ELSEWHERE:
                yield name, option


def _plain(option: click.Option) -> Any:
    if option.default is None or callable(option.default):
        return [] if option.multiple else None
    # click has a marker of its own for an option that was given no default.
    plain = isinstance(option.default, str | int | float | list | tuple)
    return option.default if plain else ([] if option.multiple else None)


def _toml(value: object) -> str:
    return msgspec.json.encode(value).decode()
