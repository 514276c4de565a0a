"""Structured logs: one line an event, with fields, as logfmt or as JSON.

    log = logs.get("controller")
    log.warning("port refused", node="node-1", port="web-3kf7q2ab", reason="no such pod")

A thin layer on the standard library's logging: records of other libraries come out in the same
form. Every line begins with `time` (UTC, milliseconds), `level`, `logger` and `event`. Whatever
a value holds, it cannot begin a line of its own, and what looks like a credential is not written.
"""

from __future__ import annotations

import json
import logging
import re
import time
import traceback
from collections.abc import Mapping, Set
from enum import IntEnum, StrEnum
from typing import TextIO

_FIELDS = "ovsnet_fields"
_OWN = frozenset({"time", "level", "logger", "event", "trace"})
_SECRET_NAME = re.compile(
    r"token|passw|secret|credential|authorization|private_?key|client_?key", re.IGNORECASE
)
_SECRET_VALUE = re.compile(r"\b(Bearer|Basic)\s+[\w.~+/=-]+", re.IGNORECASE)
_URL_USER = re.compile(r"(?<=://)[^/@\s]+@")
_PLAIN = re.compile(r"[\w.:/@%+,*\[\]-]+", re.ASCII)
HIDDEN = "(hidden)"
"""What stands in a line in place of a credential."""


class Format(StrEnum):
    """How a line is written."""

    LOGFMT = "logfmt"
    JSON = "json"


class Level(IntEnum):
    """The least level that is written; values are those of the standard library."""

    DEBUG = logging.DEBUG
    INFO = logging.INFO
    WARNING = logging.WARNING
    ERROR = logging.ERROR

    @classmethod
    def named(cls, text: str) -> Level:
        """The level of a name in any case, as it is given on a command line.

        Raises:
            ValueError: no level has this name; the message lists those there are.
        """
        try:
            return cls[text.upper()]
        except KeyError:
            known = ", ".join(LEVELS)
            raise ValueError(f"log level {text!r}: expected one of {known}") from None


LEVELS = tuple(level.name.lower() for level in Level)
"""Names of the levels, for a command line's option."""

FORMATS = tuple(Format)
"""The formats, for a command line's option."""


class Logger:
    """Writes events with fields. Cheap to make and to keep; holds no state but its fields."""

    __slots__ = ("_bound", "_log")

    def __init__(self, log: logging.Logger, bound: Mapping[str, object] | None = None) -> None:
        self._log = log
        self._bound = dict(bound or {})

    def bind(self, **fields: object) -> Logger:
        """A logger that adds these fields to every event."""
        return Logger(self._log, self._bound | fields)

    def debug(self, event: str, /, **fields: object) -> None:
        """For following a program's steps; not written by default."""
        self._write(logging.DEBUG, event, fields)

    def info(self, event: str, /, **fields: object) -> None:
        """What an operator wants to find later."""
        self._write(logging.INFO, event, fields)

    def warning(self, event: str, /, **fields: object) -> None:
        """Something is wrong in what we were given; the program goes on."""
        self._write(logging.WARNING, event, fields)

    def error(self, event: str, /, **fields: object) -> None:
        """The program failed at something that it was asked to do."""
        self._write(logging.ERROR, event, fields)

    def exception(self, event: str, /, **fields: object) -> None:
        """Like `error`, inside an `except`: adds the exception and its trace, on the one line."""
        self._write(logging.ERROR, event, fields, exception=True)

    def _write(
        self, level: int, event: str, fields: dict[str, object], *, exception: bool = False
    ) -> None:
        if self._log.isEnabledFor(level):
            extra = {_FIELDS: self._bound | fields}
            self._log.log(level, "%s", event, extra=extra, exc_info=exception)


def get(name: str) -> Logger:
    """The logger of a part of the program, such as `controller` or `api`."""
    return Logger(logging.getLogger(name))


def configure(stream: TextIO, form: Format = Format.LOGFMT, level: Level = Level.INFO) -> None:
    """Sends every record of this process to `stream`, one line each. May be called again.

    Other libraries are held to warnings unless the level is DEBUG.
    """
    handler = logging.StreamHandler(stream)
    handler.setFormatter(LineFormatter(form))
    handler.addFilter(_QuietOthers(level))
    root = logging.getLogger()
    for former in root.handlers[:]:
        if isinstance(former.formatter, LineFormatter):
            root.removeHandler(former)
    root.addHandler(handler)
    root.setLevel(level)


class _QuietOthers(logging.Filter):
    def __init__(self, level: Level) -> None:
        super().__init__()
        self._others = level if level is Level.DEBUG else max(level, Level.WARNING)

    def filter(self, record: logging.LogRecord) -> bool:
        return hasattr(record, _FIELDS) or record.levelno >= self._others


class LineFormatter(logging.Formatter):
    """Makes one line of one record; a pure function of the record."""

    def __init__(self, form: Format) -> None:
        super().__init__()
        self._line = _json if form is Format.JSON else _logfmt

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its line end."""
        return self._line(fields_of(record))


def fields_of(record: logging.LogRecord) -> dict[str, object]:
    """Everything that a record's line says, in order; credentials are hidden.

    A field that bears the name of one of the line's own gets an underscore behind it.
    """
    line: dict[str, object] = {
        "time": _timestamp(record.created),
        "level": record.levelname.lower(),
        "logger": record.name,
        "event": _scrubbed(record.getMessage()),
    }
    for name, value in getattr(record, _FIELDS, {}).items():
        line[f"{name}_" if name in _OWN else name] = (
            HIDDEN if _SECRET_NAME.search(name) else _plain(value)
        )
    if record.exc_info and record.exc_info[1] is not None:
        error = record.exc_info[1]
        line.setdefault("error", _scrubbed(f"{type(error).__name__}: {error}"))
        line["trace"] = _scrubbed("".join(traceback.format_exception(error)).rstrip())
    return line


def _timestamp(seconds: float) -> str:
    """RFC 3339 in UTC, with milliseconds."""
    whole, milliseconds = divmod(int(seconds * 1000), 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{milliseconds:03d}Z"


def _scrubbed(text: str) -> str:
    return _URL_USER.sub(f"{HIDDEN}@", _SECRET_VALUE.sub(rf"\1 {HIDDEN}", text))


def _plain(value: object) -> object:
    """The value as JSON knows it: numbers, truth and None stay, collections stay collections."""
    if value is None or isinstance(value, bool) or type(value) in (int, float):
        return value
    if isinstance(value, Mapping):
        return {
            str(k): HIDDEN if _SECRET_NAME.search(str(k)) else _plain(v) for k, v in value.items()
        }
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return [_plain(v) for v in value]
    if isinstance(value, Set):
        return sorted(str(_plain(v)) for v in value)
    if isinstance(value, BaseException):
        return _scrubbed(f"{type(value).__name__}: {value}")
    return _scrubbed(str(value))


def _json(line: Mapping[str, object]) -> str:
    return json.dumps(line, separators=(",", ":"))


def _logfmt(line: Mapping[str, object]) -> str:
    return " ".join(f"{name}={_value(value)}" for name, value in line.items())


def _value(value: object) -> str:
    """A value as logfmt has it: bare if it is one plain word, else a JSON string."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    if isinstance(value, dict):
        text = json.dumps(value, separators=(",", ":"))
    if _PLAIN.fullmatch(text):
        return text
    return json.dumps(text, ensure_ascii=not text.isprintable())
