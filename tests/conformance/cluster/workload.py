"""Pods of a test's own: servers and clients in a namespace that goes with the test."""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import msgspec
import yaml

from tests.conformance.cluster.cluster import Cluster, ClusterError, wait_until
from tests.conformance.cluster.stock import AGNHOST

PORT = 8080
Json = dict[str, Any]


class Bench(msgspec.Struct, frozen=True):
    """A namespace, and what is done in it."""

    cluster: Cluster
    namespace: str

    @classmethod
    @contextlib.contextmanager
    def made(cls, cluster: Cluster) -> Iterator[Self]:
        """A new namespace; it goes with the context."""
        bench = cls(cluster, f"t-{secrets.token_hex(4)}")
        cluster.kubectl("create", "namespace", bench.namespace)
        try:
            yield bench
        finally:
            cluster.kubectl("delete", "namespace", bench.namespace, "--timeout=120s")

    def kubectl(self, *arguments: str, given: str | None = None) -> str:
        """kubectl in this namespace."""
        return self.cluster.kubectl("--namespace", self.namespace, *arguments, given=given)

    def apply(self, *objects: Json) -> None:
        """Apply objects."""
        self.kubectl("apply", "-f", "-", given=yaml.safe_dump_all(objects))

    def get(self, what: str, name: str) -> Json:
        """One object."""
        found: Json = json.loads(self.kubectl("get", what, name, "--output=json"))
        return found

    def ready(self, *pods: str, seconds: int = 180) -> None:
        """Wait until pods are ready."""
        self.kubectl(
            "wait", "--for=condition=Ready", f"--timeout={seconds}s", *map("pod/{}".format, pods)
        )

    def addresses(self, pod: str) -> tuple[str, ...]:
        """A pod's addresses."""
        return tuple(each["ip"] for each in self.get("pod", pod)["status"]["podIPs"])

    def exec(self, pod: str, *command: str) -> str:
        """What a command in a pod prints.

        Raises:
            ClusterError: it failed.
        """
        return self.kubectl("exec", pod, "--", *command)

    def reaches(self, pod: str, host: str, port: int = PORT, seconds: int = 2) -> bool:
        """Whether a pod gets an answer by HTTP."""
        try:
            self.exec(
                pod, "curl", "-gsS", "-m", str(seconds), f"http://{bracketed(host)}:{port}/hostname"
            )
        except ClusterError:
            return False
        return True

    def until(self, pod: str, host: str, port: int = PORT, *, reached: bool = True) -> None:
        """Wait until a pod reaches something, or does no more."""
        wait_until(
            self.cluster,
            lambda: self.reaches(pod, host, port) is reached,
            f"{pod} {'to reach' if reached else 'not to reach'} {host}:{port}",
            60.0,
        )


def bracketed(host: str) -> str:
    """An address or name as it stands in a URL."""
    return f"[{host}]" if ":" in host else host


def pod(
    name: str,
    node: str = "",
    *,
    labels: Mapping[str, str] | None = None,
    command: Sequence[str] = ("netexec", f"--http-port={PORT}", f"--udp-port={PORT}"),
    annotations: Mapping[str, str] | None = None,
    container: Json | None = None,
    **spec: Any,
) -> Json:
    """A pod that serves HTTP, and answers at /hostname with its own name."""
    main = {
        "name": "main",
        "image": AGNHOST,
        "imagePullPolicy": "IfNotPresent",
        "args": list(command),
        "readinessProbe": {"httpGet": {"path": "/", "port": PORT}, "periodSeconds": 1},
    }
    on = {"nodeSelector": {"kubernetes.io/hostname": node}} if node else {}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "labels": {"app": name, **(labels or {})},
            "annotations": dict(annotations or {}),
        },
        "spec": {
            "containers": [main | (container or {})],
            "terminationGracePeriodSeconds": 1,
            **on,
            **spec,
        },
    }


def deployment(name: str, replicas: int, spec: Json) -> Json:
    """So many pods of one spec, labelled `app` with the name."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": spec},
        },
    }


def service(name: str, selector: Mapping[str, str], **spec: Any) -> Json:
    """A Service of such pods, with both address families where the cluster has them."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {
            "selector": dict(selector),
            "ports": [{"port": 80, "targetPort": PORT}],
            "ipFamilyPolicy": "PreferDualStack",
            **spec,
        },
    }


def policy(name: str, subject: Mapping[str, str], ingress: Sequence[Json]) -> Json:
    """A NetworkPolicy for what pods may receive."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name},
        "spec": {
            "podSelector": {"matchLabels": dict(subject)},
            "policyTypes": ["Ingress"],
            "ingress": list(ingress),
        },
    }
