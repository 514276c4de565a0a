"""The API server of a sandbox: the embedded one, or Kubernetes' own with what works for it."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from ovsnet.sandbox import plan
from ovsnet.sandbox.controlplane import programs, start
from ovsnet.sandbox.controlplane.options import API_SERVER, CONTROLLERS, ETCD, Options, Outlet
from ovsnet.sandbox.layout import CONTROL, Layout
from ovsnet.sandbox.process import Spec
from ovsnet.sandbox.state import API_SERVER as PROCESS
from ovsnet.sandbox.wishes import Wishes


class Choice(msgspec.Struct, frozen=True):
    """Which API server a sandbox has."""

    port: int
    """The port of 127.0.0.1 by which clients on this machine reach it."""

    wishes: Wishes

    @property
    def url(self) -> str:
        """Where clients on this machine reach it."""
        return f"{'https' if self.wishes.programs else 'http'}://127.0.0.1:{self.port}"


def check(directory: Path) -> None:
    """See that all of Kubernetes' programs are there.

    Raises:
        MissingProgramError: some are not; the text says which.
    """
    programs.find(directory, (ETCD, API_SERVER, *CONTROLLERS))


def spec(layout: Layout, hosts: plan.Plan, choice: Choice) -> Spec:
    """How it is started. Its kubeconfigs are there once it answers.

    Raises:
        OSError: what it is told cannot be written.
    """
    if not choice.wishes.programs:
        return Spec(PROCESS, (*_EMBEDDED, *_embedded_arguments(layout, hosts, choice)))
    return Spec(PROCESS, start.command(start.write(_options(layout, hosts, choice))))


_EMBEDDED = (sys.executable, "-m", "ovsnet.sandbox.apiserver")


def _embedded_arguments(layout: Layout, hosts: plan.Plan, choice: Choice) -> tuple[str, ...]:
    address = f"{hosts.control.ipv4}:{plan.API_PORT}"
    return (
        *("--listen", f"127.0.0.1:{choice.port}"),
        *("--listen-in-netns", f"{layout.netns(CONTROL)}={address}"),
        *("--kubeconfig-out", f"{layout.inner_kubeconfig}=http://{address}"),
        *("--kubeconfig-out", str(layout.kubeconfig)),
        *("--advertise", address),
        *("--pod-cidr", ",".join(plan.POD_CIDRS)),
        *("--service-cidr", ",".join(plan.SERVICE_CIDRS)),
    )


def _options(layout: Layout, hosts: plan.Plan, choice: Choice) -> Options:
    address = str(hosts.control.ipv4)
    return Options(
        programs=choice.wishes.programs,
        directory=str(layout.control_plane),
        bind=address,
        advertise=address,
        port=plan.API_PORT,
        netns=str(layout.netns(CONTROL)),
        forward=choice.port,
        service_ranges=plan.SERVICE_CIDRS,
        pod_ranges=plan.POD_CIDRS,
        kubeconfigs=(
            Outlet(str(layout.kubeconfig), choice.url),
            Outlet(str(layout.inner_kubeconfig)),
        ),
        flags={API_SERVER: _audit(layout)} if choice.wishes.rights else {},
    )


def _audit(layout: Layout) -> tuple[str, ...]:
    """Flags by which it writes down what service accounts ask of it, a line of JSON each."""
    policy = layout.control_plane / "audit-policy.json"
    policy.parent.mkdir(parents=True, exist_ok=True)
    asked = {"level": "Metadata", "userGroups": ["system:serviceaccounts"]}
    policy.write_bytes(
        msgspec.json.encode(
            {
                "apiVersion": "audit.k8s.io/v1",
                "kind": "Policy",
                "omitStages": ["RequestReceived"],
                "rules": [asked, {"level": "None"}],
            }
        )
    )
    return (f"--audit-policy-file={policy}", f"--audit-log-path={layout.audit_log}")
