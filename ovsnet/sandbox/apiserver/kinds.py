"""The table of what this server knows: one entry per kind.

To add a kind, add an entry to `KINDS` and run `schema_source` for its definition. Discovery,
storage, lists, watches, patches, OpenAPI and a table with name and age follow from the entry;
defaults, validation and more columns are in `defaults`, `validation` and `columns`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]
"""A Kubernetes object as decoded JSON."""


@dataclass(frozen=True, eq=False)
class Kind:
    """A kind of object and how it is served."""

    group: str
    version: str
    kind: str
    plural: str
    definition: str
    """Name of its OpenAPI definition in `schema.json`."""
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    has_status: bool = False
    """A status subresource; updates of the object itself leave the status alone."""
    status_on_create: bool = False
    """Whether whoever creates the object may give it a status."""
    scales: bool = False
    counts_generations: bool = False
    """Whether metadata.generation counts the changes of everything but metadata and status."""
    fields: tuple[str, ...] = ()
    """Field selectors beside metadata.name and metadata.namespace."""
    subresources: tuple[tuple[str, str], ...] = ()
    """Further subresources that discovery lists, with their kinds."""
    needs_version_on_update: bool = False
    """Whether an update without a resourceVersion is refused."""

    @property
    def singular(self) -> str:
        """The name for one of them, as discovery has it."""
        return self.kind.lower()

    @property
    def api_version(self) -> str:
        """The value of an object's `apiVersion`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def resource(self) -> str:
        """The plural with its group, as messages name it: `deployments.apps`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


_CORE = "io.k8s.api.core.v1."
_APPS = "io.k8s.api.apps.v1."
_RBAC = "rbac.authorization.k8s.io"
_RBAC_DEFINITION = "io.k8s.api.rbac.v1."
_ALL = ("all",)
_EVENT_OBJECT = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")

NAMESPACE = Kind(
    "",
    "v1",
    "Namespace",
    "namespaces",
    _CORE + "Namespace",
    namespaced=False,
    short_names=("ns",),
    has_status=True,
    fields=("status.phase",),
    subresources=(("finalize", "Namespace"),),
)
NODE = Kind(
    "",
    "v1",
    "Node",
    "nodes",
    _CORE + "Node",
    namespaced=False,
    short_names=("no",),
    has_status=True,
    status_on_create=True,
    fields=("spec.unschedulable",),
)
POD = Kind(
    "",
    "v1",
    "Pod",
    "pods",
    _CORE + "Pod",
    short_names=("po",),
    categories=_ALL,
    has_status=True,
    counts_generations=True,
    fields=(
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.nominatedNodeName",
    ),
    subresources=(("binding", "Binding"), ("eviction", "Eviction")),
)
SERVICE = Kind(
    "",
    "v1",
    "Service",
    "services",
    _CORE + "Service",
    short_names=("svc",),
    categories=_ALL,
    has_status=True,
    fields=("spec.clusterIP", "spec.type"),
)
ENDPOINTS = Kind("", "v1", "Endpoints", "endpoints", _CORE + "Endpoints", short_names=("ep",))
CONFIG_MAP = Kind("", "v1", "ConfigMap", "configmaps", _CORE + "ConfigMap", short_names=("cm",))
SECRET = Kind("", "v1", "Secret", "secrets", _CORE + "Secret", fields=("type",))
SERVICE_ACCOUNT = Kind(
    "",
    "v1",
    "ServiceAccount",
    "serviceaccounts",
    _CORE + "ServiceAccount",
    short_names=("sa",),
    subresources=(("token", "TokenRequest"),),
)
EVENT = Kind(
    "",
    "v1",
    "Event",
    "events",
    _CORE + "Event",
    short_names=("ev",),
    fields=(
        *(f"involvedObject.{name}" for name in _EVENT_OBJECT),
        "reason",
        "reportingComponent",
        "type",
    ),
)
CLAIM = Kind(
    "",
    "v1",
    "PersistentVolumeClaim",
    "persistentvolumeclaims",
    _CORE + "PersistentVolumeClaim",
    short_names=("pvc",),
    has_status=True,
)
DEPLOYMENT = Kind(
    "apps",
    "v1",
    "Deployment",
    "deployments",
    _APPS + "Deployment",
    short_names=("deploy",),
    categories=_ALL,
    has_status=True,
    scales=True,
    counts_generations=True,
)
REPLICA_SET = Kind(
    "apps",
    "v1",
    "ReplicaSet",
    "replicasets",
    _APPS + "ReplicaSet",
    short_names=("rs",),
    categories=_ALL,
    has_status=True,
    scales=True,
    counts_generations=True,
    fields=("status.replicas",),
)
DAEMON_SET = Kind(
    "apps",
    "v1",
    "DaemonSet",
    "daemonsets",
    _APPS + "DaemonSet",
    short_names=("ds",),
    categories=_ALL,
    has_status=True,
    counts_generations=True,
)
STATEFUL_SET = Kind(
    "apps",
    "v1",
    "StatefulSet",
    "statefulsets",
    _APPS + "StatefulSet",
    short_names=("sts",),
    categories=_ALL,
    has_status=True,
    scales=True,
    counts_generations=True,
)
CONTROLLER_REVISION = Kind(
    "apps", "v1", "ControllerRevision", "controllerrevisions", _APPS + "ControllerRevision"
)
JOB = Kind(
    "batch",
    "v1",
    "Job",
    "jobs",
    "io.k8s.api.batch.v1.Job",
    categories=_ALL,
    has_status=True,
    counts_generations=True,
)
NETWORK_POLICY = Kind(
    "networking.k8s.io",
    "v1",
    "NetworkPolicy",
    "networkpolicies",
    "io.k8s.api.networking.v1.NetworkPolicy",
    short_names=("netpol",),
    counts_generations=True,
)
INGRESS = Kind(
    "networking.k8s.io",
    "v1",
    "Ingress",
    "ingresses",
    "io.k8s.api.networking.v1.Ingress",
    short_names=("ing",),
    has_status=True,
    counts_generations=True,
)
ENDPOINT_SLICE = Kind(
    "discovery.k8s.io",
    "v1",
    "EndpointSlice",
    "endpointslices",
    "io.k8s.api.discovery.v1.EndpointSlice",
    counts_generations=True,
)
LEASE = Kind(
    "coordination.k8s.io",
    "v1",
    "Lease",
    "leases",
    "io.k8s.api.coordination.v1.Lease",
    needs_version_on_update=True,
)
NEW_EVENT = Kind(
    "events.k8s.io",
    "v1",
    "Event",
    "events",
    "io.k8s.api.events.v1.Event",
    short_names=("ev",),
    fields=(
        *(f"regarding.{name}" for name in _EVENT_OBJECT),
        "reason",
        "reportingController",
        "type",
    ),
)
ROLE = Kind(_RBAC, "v1", "Role", "roles", _RBAC_DEFINITION + "Role")
ROLE_BINDING = Kind(_RBAC, "v1", "RoleBinding", "rolebindings", _RBAC_DEFINITION + "RoleBinding")
CLUSTER_ROLE = Kind(
    _RBAC, "v1", "ClusterRole", "clusterroles", _RBAC_DEFINITION + "ClusterRole", namespaced=False
)
CLUSTER_ROLE_BINDING = Kind(
    _RBAC,
    "v1",
    "ClusterRoleBinding",
    "clusterrolebindings",
    _RBAC_DEFINITION + "ClusterRoleBinding",
    namespaced=False,
)
DISRUPTION_BUDGET = Kind(
    "policy",
    "v1",
    "PodDisruptionBudget",
    "poddisruptionbudgets",
    "io.k8s.api.policy.v1.PodDisruptionBudget",
    short_names=("pdb",),
    has_status=True,
    counts_generations=True,
)
PRIORITY_CLASS = Kind(
    "scheduling.k8s.io",
    "v1",
    "PriorityClass",
    "priorityclasses",
    "io.k8s.api.scheduling.v1.PriorityClass",
    namespaced=False,
    short_names=("pc",),
    counts_generations=True,
)

KINDS: tuple[Kind, ...] = (
    NAMESPACE,
    NODE,
    POD,
    SERVICE,
    ENDPOINTS,
    CONFIG_MAP,
    SECRET,
    SERVICE_ACCOUNT,
    EVENT,
    CLAIM,
    DEPLOYMENT,
    REPLICA_SET,
    DAEMON_SET,
    STATEFUL_SET,
    CONTROLLER_REVISION,
    JOB,
    NETWORK_POLICY,
    INGRESS,
    ENDPOINT_SLICE,
    LEASE,
    NEW_EVENT,
    ROLE,
    ROLE_BINDING,
    CLUSTER_ROLE,
    CLUSTER_ROLE_BINDING,
    DISRUPTION_BUDGET,
    PRIORITY_CLASS,
)

_META = "io.k8s.apimachinery.pkg.apis.meta.v1."
EXTRA_DEFINITIONS: tuple[str, ...] = (
    _CORE + "Binding",
    "io.k8s.api.policy.v1.Eviction",
    "io.k8s.api.autoscaling.v1.Scale",
    _META + "DeleteOptions",
    _META + "Status",
    "io.k8s.api.authorization.v1.SelfSubjectAccessReview",
    "io.k8s.api.authorization.v1.SelfSubjectRulesReview",
    "io.k8s.api.authentication.v1.SelfSubjectReview",
    "io.k8s.api.authentication.v1.TokenRequest",
    "io.k8s.api.authentication.v1.TokenReview",
)
"""Definitions that are needed beside those of the kinds."""

BY_PATH: dict[tuple[str, str, str], Kind] = {(k.group, k.version, k.plural): k for k in KINDS}
"""Kinds by group, version and plural: by what a URL says."""
