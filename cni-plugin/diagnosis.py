"""Why nothing answered for a pod's gateway, in an operator's words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ovsnet.cni.ports import SwitchPort


@dataclass(frozen=True)
class Silence:
    """What was found when an ADD's deadline had passed."""

    pod: str
    port: str
    bridge: str
    seconds: float
    found: SwitchPort | None
    controllers: Mapping[str, bool]
    switch_answers: bool

    @property
    def refused(self) -> bool:
        """True if only the controller can be why: all the rest is in order."""
        return (
            self.switch_answers
            and self.found is not None
            and self.found.ofport is not None
            and self.found.ofport > 0
            and any(self.controllers.values())
        )

    def explain(self) -> str:
        """The first thing that is wrong on the way from the port to its flows."""
        within = f"within {self.seconds:g} s"
        if not self.switch_answers:
            return f"ovs-vswitchd does not run, so port {self.port} of pod {self.pod} leads nowhere"
        if self.found is None:
            return f"port {self.port} of pod {self.pod} was removed from {self.bridge} by others"
        if self.found.ofport is None:
            return f"Open vSwitch did not take up port {self.port} of pod {self.pod} {within}"
        if self.found.ofport < 0:
            return f"Open vSwitch cannot use port {self.port} of pod {self.pod}: {self.found.error}"
        if not any(self.controllers.values()):
            targets = ", ".join(sorted(self.controllers)) or "none is configured"
            return (
                f"the switch has no connection to a controller ({targets}), so nothing lets pod"
                f" {self.pod} in"
            )
        return (
            f"the controller is connected but installed no flows for port {self.port} of pod"
            f" {self.pod} {within}; `ovsnet status` lists refused ports and why"
        )
