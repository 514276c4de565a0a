"""`make conformance` and its parts: see README.md beside this file."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import pytest

from ovsnet.sandbox import process, state, teardown
from ovsnet.sandbox.cluster import check_machine
from tests.conformance import burst, programs, record, suites
from tests.conformance.cluster import cluster as clusters
from tests.conformance.cluster import machine, network
from tests.conformance.cluster.cluster import Cluster
from tests.conformance.cluster.machine import MachineError
from tests.conformance.cnitool.node import INSTANCE as CNITOOL
from tests.conformance.programs import CANNOT_RUN, MissingError
from tests.conformance.suites import SUITES, Suite

INTERRUPTED = 130
FAILED = 1
_HERE = Path(__file__).parent
_NODE = {
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "iptables": "iptables",
    "tc": "iproute2",
    "ping": "iputils-ping",
}
"""Programs that tests on one node need, with their Debian packages."""

_CLUSTER = _NODE | {
    "etcd": "etcd-server",
    "mmdebstrap": "mmdebstrap",
    "buildah": "buildah",
    "busybox": "busybox-static",
}
"""Programs that a cluster needs besides."""


class Tally:
    """A pytest plugin that counts tests."""

    def __init__(self) -> None:
        self._failed: set[str] = set()
        self._passed: set[str] = set()

    def pytest_runtest_logreport(self, report: Any) -> None:
        """A test has passed if it did, and its set-up and clean-up too."""
        if report.failed:
            self._failed.add(report.nodeid)
        elif report.when == "call" and report.passed:
            self._passed.add(report.nodeid)

    @property
    def text(self) -> str:
        """The last line."""
        return f"{len(self._passed - self._failed)} passed, {len(self._failed)} failed"


def _say(text: str) -> None:
    click.echo(f"conformance: {text}", err=True)


@contextlib.contextmanager
def _alone(needed: Mapping[str, str]) -> Iterator[None]:
    """See that what is needed is there, and that no other run is under way. `needed` are programs
    with their packages; whoever needs any needs Go too, by which the others are built.

    Exits with `CANNOT_RUN` if it cannot be done here, and says why.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    programs.cache().mkdir(parents=True, exist_ok=True)
    with (programs.cache() / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            check_machine()
            missing = {name: deb for name, deb in needed.items() if not shutil.which(name)}
            if missing:
                packages = " ".join(sorted(set(missing.values())))
                raise MissingError(
                    f"not installed: {', '.join(missing)}; apt-get install {packages}"
                )
            if needed:
                programs.go()
            yield
        except BlockingIOError:
            _say("another run is under way")
            sys.exit(CANNOT_RUN)
        except (MissingError, state.ClusterError) as error:
            _say(f"cannot run: {error}")
            sys.exit(CANNOT_RUN)
        except (clusters.ClusterError, MachineError, network.InstallError) as error:
            _say(str(error))
            sys.exit(FAILED)
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)


def _pytest(directory: str, arguments: Sequence[str]) -> int:
    """Run a folder's tests; the exit status."""
    tally = Tally()
    options = ["-q", "-p", "no:cacheprovider", *arguments]
    status = pytest.main([str(_HERE / directory), *options], plugins=[tally])
    click.echo(tally.text)
    return INTERRUPTED if status is pytest.ExitCode.INTERRUPTED else int(status)


@contextlib.contextmanager
def _cluster() -> Iterator[Cluster]:
    """The cluster that runs, or one of our own for as long as the context lasts."""
    running = clusters.attach(_say)
    if running is not None:
        _say("using the cluster that runs")
        yield running
        return
    try:
        made = clusters.up(_say)
        network.install(made, _say)
        yield made
    except BaseException as error:
        if not (isinstance(error, SystemExit) and error.code == 0):
            with contextlib.suppress(OSError):
                _say(f"logs are in {network.keep_logs(clusters.INSTANCE)}")
        raise
    finally:
        clusters.down()


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Hold ovsnet to what others expect of a pod network."""


@main.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def cnitool(arguments: tuple[str, ...]) -> None:
    """Run libcni's own tool against the plugin. ARGUMENTS go to pytest."""
    with _alone(_NODE):
        programs.cnitool()
        try:
            sys.exit(_pytest("cnitool", ["--timeout=120", *arguments]))
        finally:
            # If the tests were interrupted twice, their own clean-up was too.
            teardown.down(CNITOOL)


@main.command()
def up() -> None:
    """Start a cluster with the network installed, and leave it running."""
    with _alone(_CLUSTER):
        if clusters.attach(_say) is None:
            made = clusters.up(_say)
            network.install(made, _say)
        click.echo(f"export KUBECONFIG={clusters.INSTANCE.kubeconfig}")
        click.echo(f"nsenter --net={clusters.INSTANCE.netns('control')} kubectl get pods -A")


@main.command()
def down() -> None:
    """Take the cluster away."""
    with _alone({}):
        clusters.down()


@main.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def quick(arguments: tuple[str, ...]) -> None:
    """Start a cluster; see that pods, a policy and a service work. ARGUMENTS go to pytest."""
    with _alone(_CLUSTER), _cluster():
        sys.exit(_pytest("quick", ["--timeout=300", *arguments]))


@main.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def life(arguments: tuple[str, ...]) -> None:
    """Restart, drain, roll, reboot: what a cluster goes through. ARGUMENTS go to pytest."""
    with _alone(_CLUSTER), _cluster():
        sys.exit(_pytest("life", ["--timeout=900", *arguments]))


@main.command()
@click.argument("names", nargs=-1, type=click.Choice([suite.name for suite in SUITES]))
def upstream(names: tuple[str, ...]) -> None:
    """Run suites of Kubernetes' own end-to-end tests; all, unless some are named."""
    with _alone(_CLUSTER), _cluster() as cluster:
        sys.exit(_upstream(cluster, [s for s in SUITES if not names or s.name in names]))


def _upstream(cluster: Cluster, chosen: Sequence[Suite]) -> int:
    tests = programs.e2e(_say)
    results = []
    for suite in chosen:
        _say(f"running {suite.name}; its output is in {record.REPORTS}/{suite.name}.log")
        found = suites.run(cluster, tests, suite, record.REPORTS)
        click.echo(f"{suite.name}: {record.count(found)}")
        results += found
        if not any(each.state == "passed" for each in found):
            _say(f"{suite.name}: no test passed")
    record.keep(results)
    if {each.suite for each in results} == {suite.name for suite in SUITES}:
        version = cluster.stock.version
        record.PAGE.write_text(record.page(results, version))
        _say(f"written: {record.PAGE}")
    failed = [each for each in results if each.state == "failed"]
    for each in failed:
        click.echo(f"failed: {each.test}")
    complete = all(any(r.suite == s.name and r.state == "passed" for r in results) for s in chosen)
    return 0 if complete and not failed else FAILED


@main.command(name="all")
def everything() -> None:
    """Everything, one after the other, on one cluster."""
    with _alone(_CLUSTER):
        programs.cnitool()
        try:
            worst = [_pytest("cnitool", ["--timeout=120"])]
        finally:
            teardown.down(CNITOOL)
        with _cluster() as cluster:
            worst.append(_pytest("quick", ["--timeout=300"]))
            worst.append(_upstream(cluster, SUITES))
            worst.append(_pytest("life", ["--timeout=900"]))
            # Within, so that the logs are kept if something has failed.
            sys.exit(max(worst))


@main.command(name="burst")
@click.option("--pods", default=burst.PODS, show_default=True, help="How many.")
def bursts(pods: int) -> None:
    """Time a burst of pods, here and with Debian's bridge plugin on a cluster of its own each."""
    results = {}
    networks = {
        "bridge": burst.with_bridge,
        "ovsnet": lambda made: network.install(made, _say),
    }
    with _alone(_CLUSTER):
        if clusters.attach(_say) is not None:
            raise click.ClickException("a cluster is running: tests/conformance/run down ends it")
        for name, install in networks.items():
            try:
                made = clusters.up(_say)
                install(made)
                _say(f"{name}: starting {pods} pods")
                results[name] = burst.measure(made, pods)
            finally:
                clusters.down()
    burst.table(results, click.echo)


@main.command(context_settings={"ignore_unknown_options": True})
@click.argument("node")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def node(node: str, command: tuple[str, ...]) -> None:
    """Run a command on a node of the cluster that runs."""
    chosen = machine.Machine(clusters.INSTANCE, node)
    record = process.records(clusters.INSTANCE).get(chosen.process)
    if record is None or not process.alive(record):
        reason = f"{node} does not run: tests/conformance/run up starts a cluster"
        raise click.ClickException(reason)
    words = machine.inside(chosen, command)
    os.execvp(words[0], words)


if __name__ == "__main__":
    main()
