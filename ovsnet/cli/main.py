"""The command `ovsnet`: its parts are loaded when they are used, so that help comes at once."""

from __future__ import annotations

import importlib
from collections.abc import Mapping

import click
import msgspec

PROGRAM = "ovsnet"


class Part(msgspec.Struct, frozen=True):
    """A command: where it is defined, and its line in the help."""

    module: str
    attribute: str
    help: str


COMMANDS: Mapping[str, Part] = {
    "status": Part("ovsnet.cli.status", "status", "Show nodes, their switches and their ports."),
    "why": Part("ovsnet.cli.why", "why", "Say whether one end may reach another, and why."),
    "plan": Part("ovsnet.cli.plan", "plan", "Say what network policies would change."),
    "explain": Part("ovsnet.cli.explain", "explain", "Put the flows of a switch into words."),
    "sandbox": Part("ovsnet.cli.sandbox", "sandbox", "Run a whole cluster on this machine."),
}


class LazyGroup(click.Group):
    """A group that imports a command's module only when that command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        """The commands in the order in which a newcomer wants to read of them."""
        return list(COMMANDS)

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002  click's signature
        cmd_name: str,
    ) -> click.Command | None:
        """The command of a name, or None."""
        part = COMMANDS.get(cmd_name)
        if part is None:
            return None
        command: click.Command = getattr(importlib.import_module(part.module), part.attribute)
        return command

    def format_commands(
        self,
        ctx: click.Context,  # noqa: ARG002  click's signature
        formatter: click.HelpFormatter,
    ) -> None:
        """The list of commands, without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, part.help) for name, part in COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit status: 0 done; 1 it failed, or something is not well; 2 wrong usage; 3 the "
    "controller cannot be reached. Commands that run another one pass its exit status on.",
)
@click.version_option(package_name=PROGRAM, prog_name=PROGRAM)
def main() -> None:
    """Ovsnet connects the pods of a Kubernetes cluster through Open vSwitch.

    A controller computes the flows of every node's switch from what the Kubernetes API says. This
    command shows what it did, and runs a whole cluster on one machine to try it out:

    \b
      ovsnet sandbox up                           start a cluster of three nodes
      ovsnet sandbox kubectl get pods -A          use it
      ovsnet status                               see its nodes, switches and ports
      ovsnet status --wait                        wait until what was applied is in effect
      ovsnet why default/web default/db --port 5432    may one reach the other, by which policy
      ovsnet plan policy.yaml                     what would change if it were applied
      ovs-ofctl dump-flows br-int | ovsnet explain     read a switch's flows
    """
