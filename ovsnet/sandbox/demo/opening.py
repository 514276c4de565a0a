"""The chapter about NetworkPolicy: a namespace is closed, and opened again rule by rule."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Sequence
from typing import NamedTuple

from ovsnet.sandbox.demo import pairs
from ovsnet.sandbox.demo.application import MANIFESTS, POLICIES, Pod
from ovsnet.sandbox.demo.checks import Check
from ovsnet.sandbox.demo.continuity import RequestStream, Traffic
from ovsnet.sandbox.demo.forbidden import Conversation
from ovsnet.sandbox.demo.knocking import knock
from ovsnet.sandbox.demo.pairs import FAMILIES, Attempt, Survey
from ovsnet.sandbox.demo.reachability import NodeSite, OutsideSite, of_family
from ovsnet.sandbox.demo.teller import Teller, wait

NAMESPACE = "shop"

_SETTLED_SECONDS = 30


class Line(NamedTuple):
    """Who has a connection to whom: two applications, and the port."""

    source: str
    destination: str
    port: int


class Step(NamedTuple):
    """A file of policies, what it says, and connections that end by it or go on."""

    file: str
    says: str
    ends: Line | None = None
    stays: Line | None = None
    planned: bool = False


STEPS = (
    Step(
        "10-default-deny.yaml",
        "between the shop's pods and everybody but their own node nothing passes any more",
        ends=Line("toolbox", "catalogue", 8080),
        stays=Line("gateway", "ledger", 5432),
    ),
    Step(
        "20-storefront.yaml",
        "everybody may call the storefront, and it the services, who do not let it in yet",
    ),
    Step("30-api.yaml", "the services let the storefront in, at the ports that they call http"),
    Step("40-cart-store.yaml", "the services may use the store, by a policy at either end"),
    Step("50-metrics.yaml", "another team's namespace may read metrics"),
    Step(
        "60-cart-store-for-cart.yaml",
        "the store is for the cart alone: what the catalogue has open ends, the cart's goes on",
        ends=Line("catalogue", "cart-store", 6379),
        stays=Line("cart", "cart-store", 6379),
        planned=True,
    ),
)
ALLOWED = Line("storefront", "cart", 8000)
DENIED = Line("catalogue", "cart-store", 6379)


def ends_of(pods: Sequence[Pod], line: Line) -> tuple[Pod, Pod]:
    """A pod of each of two applications; of different nodes, if there are such.

    Raises:
        ValueError: an application has no pod.
    """
    found = [
        (source, destination)
        for source in pods
        for destination in pods
        if (source.application, destination.application) == (line.source, line.destination)
        and source != destination
    ]
    if not found:
        raise ValueError(f"no pod of {line.source} or none of {line.destination} runs")
    return max(found, key=lambda pair: pair[0].node != pair[1].node)


class Opening:
    """Tells the chapter. The policies stay when it is over."""

    def __init__(self, teller: Teller, pods: Sequence[Pod]) -> None:
        self._teller = teller
        self._pods = sorted(pods, key=lambda pod: pod.namespace != NAMESPACE)
        self._tried: tuple[Attempt, ...] = ()

    def tell(self, sites: Sequence[NodeSite], outside: OutsideSite) -> None:
        """Apply one file after the other, and see after each who reaches whom.

        Raises:
            ApplicationError, ApiError, ValueError, OSError: something that the chapter needs is not
                there; the message says what.
        """
        screen = self._teller.screen
        screen.section(f"The namespace {NAMESPACE} is closed, and opened again rule by rule")
        screen.say("every pod tries every port of every other one, in IPv4 and IPv6; below:")
        screen.say("✓ reached   · not reached   n/m in so many of the attempts   * new")
        self._tried = pairs.attempts(self._pods, sites, outside)
        survey = self._survey(None)
        for step in STEPS:
            survey = self._take(step, survey)
        self._ask()

    def _survey(self, before: Survey | None) -> Survey:
        """See who reaches whom now, and show it."""
        lists = self._teller.api(*(kind.path for kind in pairs.KINDS))
        bodies = (json.dumps(each).encode() for each in lists)
        world = pairs.world(dict(zip(pairs.KINDS, bodies, strict=True)))
        allowed = pairs.allowed(world, self._tried)
        survey = Survey(self._tried, allowed, knock(self._tried, allowed))
        self._teller.screen.pairs(survey, before)
        self._teller.check(*survey.checks)
        return survey

    def _take(self, step: Step, before: Survey) -> Survey:
        screen = self._teller.screen
        name = f"deploy/{POLICIES.relative_to(MANIFESTS.parent) / step.file}"
        with contextlib.ExitStack() as open_ones:
            ends = [open_ones.enter_context(each) for each in self._conversations(step.ends)]
            traffic = open_ones.enter_context(Traffic(self._streams(step.stays)))
            wait(lambda: all(each.answers for each in ends))
            if step.planned:
                screen.say(f"\n  ovsnet plan {name}")
                self._plan(step)
            screen.say(f"\n  kubectl apply -f {name}")
            screen.say(step.says)
            self._apply(step)
            since = time.monotonic()
            answers = [each.answers for each in ends]
            survey = self._survey(before)
            over = [each.over(n, since) for each, n in zip(ends, answers, strict=True)]
            self._teller.check(*over, *(outcome.check for outcome in traffic.stop()))
        return survey

    def _apply(self, step: Step) -> None:
        """Apply a step's file and wait until it is in effect on all nodes."""
        self._teller.kubectl("apply", "-f", str(POLICIES / step.file))
        began = time.monotonic()
        done = self._teller.ovsnet("status", "--wait", "--timeout", str(_SETTLED_SECONDS))
        seconds = time.monotonic() - began
        self._teller.check(
            Check(
                "in effect on all nodes, by ovsnet status --wait",
                done.returncode == 0,
                f"{seconds:.1f} s" if done.returncode == 0 else done.stderr.strip(),
            )
        )

    def _conversations(self, line: Line | None) -> list[Conversation]:
        if line is None:
            return []
        source, destination = ends_of(self._pods, line)
        return [
            Conversation(
                f"one TCP connection of {line.source} to {line.destination}, IPv{family}",
                source.netns,
                (of_family(destination.addresses, family), line.port),
            )
            for family in FAMILIES
        ]

    def _streams(self, line: Line | None) -> list[RequestStream]:
        if line is None:
            return []
        source, destination = ends_of(self._pods, line)
        return [
            RequestStream(
                f"one TCP connection of {line.source} to {line.destination}, IPv{family}",
                source.netns,
                (of_family(destination.addresses, family), line.port),
                destination.name,
                keep=True,
            )
            for family in FAMILIES
        ]

    def _plan(self, step: Step) -> None:
        """Let `ovsnet plan` say beforehand what the step will do."""
        done = self._teller.ovsnet("plan", str(POLICIES / step.file))
        self._teller.screen.quote(done.stdout or done.stderr)
        self._teller.check(
            Check(
                "the plan is whole, and foresees connections that end",
                done.returncode == 0 and cuts(done.stdout) > 0,
                f"exit status {done.returncode}, {cuts(done.stdout)} connections",
            )
        )

    def _ask(self) -> None:
        """Let `ovsnet why` explain a pair that is allowed, and one that is not."""
        for line, verdict in ((ALLOWED, "allowed"), (DENIED, "denied")):
            source, destination = ends_of(self._pods, line)
            arguments = ("why", source.text, destination.text, "--port", str(line.port))
            self._teller.screen.say(f"\n  ovsnet {' '.join(arguments)}")
            done = self._teller.ovsnet(*arguments)
            self._teller.screen.quote(done.stdout or done.stderr)
            self._teller.check(
                Check(
                    f"{line.source} to {line.destination} is {verdict}, and the switches' flows "
                    "agree",
                    done.returncode == 0 and says(done.stdout, verdict),
                    f"exit status {done.returncode}",
                )
            )


def says(output: str, verdict: str) -> bool:
    """Whether `ovsnet why` gives this verdict in every family that it speaks of."""
    heads = [line for line in output.splitlines() if line.startswith("IPv")]
    return bool(heads) and all(line.endswith(f": {verdict}") for line in heads)


def cuts(output: str) -> int:
    """How many live connections `ovsnet plan` says would be cut."""
    _, _, after = output.partition("Live connections that would be cut\n")
    lines = after.partition("\n\n")[0].splitlines()
    return sum(line.startswith(("tcp", "udp", "sctp", "icmp")) for line in lines)
