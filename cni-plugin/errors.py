"""Errors as the CNI specification numbers them (spec 1.1.0, section 5, "Error").

Anything that goes wrong in a verb is raised as a `CniError`; the server prints it as the spec's
error result. Codes below 100 are the specification's.
"""

from __future__ import annotations

import enum
import json


class Code(enum.IntEnum):
    """The specification's error codes."""

    INCOMPATIBLE_VERSION = 1
    UNSUPPORTED_FIELD = 2
    UNKNOWN_CONTAINER = 3
    INVALID_ENVIRONMENT = 4
    IO_FAILURE = 5
    DECODING_FAILURE = 6
    INVALID_CONFIG = 7
    TRY_AGAIN = 11
    NOT_AVAILABLE = 50
    LIMITED = 51
    INTERNAL = 100
    """Not the specification's: a fault in the plugin itself."""
    CHECK_FAILED = 101
    """Not the specification's: CHECK found something that is not as ADD left it."""


class CniError(Exception):
    """A verb failed; `message` says what was wrong and what was expected, for an operator."""

    def __init__(self, code: Code, message: str, details: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details

    def render(self, version: str) -> bytes:
        """The error result that goes to standard output."""
        error: dict[str, object] = {
            "cniVersion": version,
            "code": int(self.code),
            "msg": self.message,
        }
        if self.details:
            error["details"] = self.details
        return json.dumps(error).encode() + b"\n"


def try_again(message: str, details: str = "") -> CniError:
    """Error 11: the same request may succeed later; kubelet repeats it."""
    return CniError(Code.TRY_AGAIN, message, details)
