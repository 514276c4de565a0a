"""The command `ovsnet`, run as a user of a sandbox does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from ovsnet.sandbox.layout import INSTANCE_VARIABLE


@dataclass(frozen=True)
class Said:
    """What a command has printed."""

    status: int
    output: str
    error: str

    @property
    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.output)
        return found


def ovsnet(instance: str, *arguments: str, given: str = "") -> Said:
    """Run the command with these arguments, about one sandbox."""
    done = subprocess.run(
        [sys.executable, "-c", "from ovsnet.cli.main import main; main()", *arguments],
        env=os.environ | {INSTANCE_VARIABLE: instance},
        input=given,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    return Said(done.returncode, done.stdout, done.stderr)
