"""Upstream's own suites: which of Kubernetes' end-to-end tests are run, and what came of it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import msgspec

from tests.conformance.cluster.cluster import Cluster
from tests.conformance.programs import Suites

_AT_ONCE = 4


class Skip(msgspec.Struct, frozen=True):
    """Tests that are left out: a pattern of their names, and why."""

    pattern: str
    reason: str


class Suite(msgspec.Struct, frozen=True):
    """Tests that are run together: a pattern of their names."""

    name: str
    focus: str
    skips: tuple[Skip, ...] = ()
    at_once: int = _AT_ONCE


_SCTP = Skip(r"SCTP|sctp", "this machine's kernel has no SCTP; `make test-kernel` has it")

_ELSEWHERE = (
    Skip(r"\[Conformance\]", "in the suite conformance"),
    Skip(r" Netpol ", "in the suite netpol"),
    _SCTP,
    Skip(r"\[Feature:LoadBalancer\]|\[Provider:GCE\]", "there is no cloud"),
    Skip(r"[Kk]ube-?[Pp]roxy", "there is no kube-proxy"),
    Skip(r"\[Disruptive\]", "logs in to nodes; tests/conformance/life restarts what there is"),
    Skip(r"Internet connection", "the machines have no way to the Internet"),
    Skip(r"\[Feature:Ingress\]", "Ingress is not the pod network's"),
    Skip(r"configMap nameserver|PerformanceDNS", "about the DNS server alone"),
    Skip(r"\[Alpha\]", "features that are off"),
    Skip(
        r"session affinity timeout",
        "wants another endpoint after the timeout; here the first choice follows from the client's"
        " address, so that connections begun together agree, and so does the second",
    ),
    Skip(
        r"large requests: udp|endpoints using hostNetwork",
        "datagrams in fragments to services, whose ports the userspace datapath does not tell;"
        " `make test-kernel` has them",
    ),
    Skip(
        r"different Service CIDRs",
        "a range that comes later; ranges of services are configured, and a Service that has an"
        " address in no such range gets an Event",
    ),
    Skip(r"rejected for evicted pods", "kubelet here has no limits of what pods store to evict by"),
    Skip(
        r"NodePort and HealthCheckNodePort correctly",
        "wants a node's main address at an endpoint of another node, to which a node's own calls of"
        " node ports go with its address in the pod network (kube-proxy masquerades them as well)",
    ),
    Skip(r"Networking-Performance", "measures, and has nothing to compare with"),
)

SUITES = (
    Suite("netpol", r"\[sig-network\] Netpol ", (_SCTP,)),
    Suite("conformance", r"\[sig-network\].*\[Conformance\]"),
    Suite("network", r"\[sig-network\]", _ELSEWHERE, at_once=6),
)
"""All of sig-network. [Conformance], of which no test of it is [Serial], has services, DNS, and who
reaches whom between pods and nodes; `network` has what upstream tests besides.
"""


class Result(msgspec.Struct, frozen=True):
    """What came of one test: `passed`, `failed` or `skipped`; why it failed or was skipped."""

    suite: str
    test: str
    state: str
    seconds: float
    reason: str = ""


def run(
    cluster: Cluster, programs: Suites, suite: Suite, reports: Path, more: Sequence[str] = ()
) -> list[Result]:
    """Run a suite; its output goes to a file below `reports`.

    `more` are further options of ginkgo.
    """
    reports.mkdir(parents=True, exist_ok=True)
    report = reports / f"{suite.name}.xml"
    report.unlink(missing_ok=True)
    command = [
        *(str(programs.ginkgo), f"--procs={suite.at_once}", "--no-color", "--succinct"),
        *(f"--focus={suite.focus}", *(f"--skip={skip.pattern}" for skip in suite.skips)),
        *("--timeout=3h", f"--output-dir={reports}", f"--junit-report={report.name}", *more),
        *(str(programs.tests), "--"),
        *("--kubeconfig", str(cluster.kubeconfig), "--provider=local"),
        *("--num-nodes", str(len(cluster.machines)), "--dump-logs-on-failure=false"),
        *("--disable-log-dump", "--ginkgo.silence-skips"),
    ]
    with (reports / f"{suite.name}.log").open("w") as log:
        subprocess.run(
            cluster.within_control(command),
            env={**os.environ, "KUBECONFIG": str(cluster.kubeconfig)},
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,
        )
    return read(suite, report) if report.exists() else []


def read(suite: Suite, report: Path) -> list[Result]:
    """The results in a report (the XML form that JUnit made usual) of the tests that were meant."""
    found = []
    for case in ElementTree.parse(report).iter("testcase"):
        # Beside tests the report has what was done before and after them, once for each process.
        kind, _, name = case.get("name", "").partition(" ")
        skipped, failed = case.find("skipped"), case.find("failure")
        failed = case.find("error") if failed is None else failed
        # A test that was not selected is in the report as skipped, without a reason.
        reason = "" if skipped is None else skipped.get("message", "").removeprefix("skipped - ")
        if kind != "[It]" or (skipped is not None and reason in {"", "skipped"}):
            continue
        state = "failed" if failed is not None else "skipped" if skipped is not None else "passed"
        reason = reason if failed is None else failed.get("message", "")
        found.append(Result(suite.name, name, state, float(case.get("time", "0")), reason))
    return found
