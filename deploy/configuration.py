"""Writes deploy/config/: every option of the agent and of the controller, explained, with the
values that a deployed one has where they differ from the defaults. `make manifests` runs it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from ovsnet.cni import config as agent
from ovsnet.controller import options as controller
from ovsnet.controller.__main__ import main as controller_command

DIRECTORY = Path(__file__).parent / "config"

AGENT = {
    "controller_service": '"ovsnet-system/ovsnet-controller"',
    "plugins": '"/usr/lib/cni"',
}
CONTROLLER = {
    "lease": '"ovsnet-system/ovsnet-controller"',
    # The same as the agent's.
    "services": json.dumps(agent.Config().services),
}


def deployed(text: str, values: Mapping[str, str]) -> str:
    """The text of a configuration file with other values.

    Raises:
        ValueError: an option is not in it.
    """
    for name, value in values.items():
        text, found = re.subn(
            rf"^(?:# )?{name} =.*$", f"{name} = {value}", text, flags=re.MULTILINE
        )
        if found != 1:
            raise ValueError(f"there is no option {name}")
    return text


def files() -> dict[Path, str]:
    """The files with their content."""
    return {
        DIRECTORY / "agent.toml": deployed(agent.explain(), AGENT),
        DIRECTORY / "controller.toml": deployed(controller.explain(controller_command), CONTROLLER),
    }


if __name__ == "__main__":
    DIRECTORY.mkdir(exist_ok=True)
    for path, text in files().items():
        path.write_text(text)
