"""What a container runtime asks: environment and network configuration, checked.

CNI spec 1.1.0, section 1 (network configuration) and section 2 (parameters). `parse` takes the
bytes as the plugin got them and returns a frozen `Request`, or raises the spec's error naming
the field and what was expected.
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ovsnet.cni import shaping
from ovsnet.cni.errors import CniError, Code
from ovsnet.cni.shaping import Shaping
from ovsnet.names import IFNAMSIZ

VERSIONS = ("0.3.1", "0.4.0", "1.0.0", "1.1.0")
"""The protocol versions spoken, oldest first."""

PLUGIN_TYPE = "ovsnet"
ATTACHMENTS = "cni.dev/valid-attachments"

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]*")
_CONTAINER_ID = _NAME
KNOWN_FIELDS = frozenset(
    {
        "cniVersion",
        "cniVersions",
        "name",
        "type",
        "ipam",
        "dns",
        "args",
        "capabilities",
        "runtimeConfig",
        "prevResult",
        "disableCheck",
        "disableGC",
    }
)
"""Fields of a network configuration that are accepted; docs/agent.md explains each."""


class Verb(enum.Enum):
    """CNI_COMMAND."""

    ADD = "ADD"
    DEL = "DEL"
    CHECK = "CHECK"
    GC = "GC"
    STATUS = "STATUS"
    VERSION = "VERSION"


_OLDEST = {Verb.CHECK: "0.4.0", Verb.GC: "1.1.0", Verb.STATUS: "1.1.0"}
_PER_CONTAINER = frozenset({Verb.ADD, Verb.DEL, Verb.CHECK})


@dataclass(frozen=True)
class PodRef:
    """The Kubernetes pod that a container namespace belongs to (CNI_ARGS K8S_POD_…)."""

    namespace: str
    name: str
    uid: str

    @property
    def text(self) -> str:
        """`NAMESPACE/NAME`, as operators write it."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True)
class Attachment:
    """One interface of one container: what the specification calls an attachment."""

    container_id: str
    ifname: str


@dataclass(frozen=True)
class NetworkConf:
    """The network configuration of one plugin execution."""

    version: str
    name: str
    ipam: Mapping[str, Any] | None = None
    dns: Mapping[str, Any] = field(default_factory=dict)
    prev_result: Mapping[str, Any] | None = None
    valid_attachments: frozenset[Attachment] | None = None
    shaping: Shaping = field(default_factory=Shaping)
    raw: bytes = b"{}"
    """As it came in; a delegated plugin gets the same."""


@dataclass(frozen=True)
class Request:
    """One execution of the plugin."""

    verb: Verb
    conf: NetworkConf
    container_id: str = ""
    ifname: str = ""
    netns: str = ""
    pod: PodRef | None = None
    path: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def attachment(self) -> Attachment:
        """Container and interface that the verb is about."""
        return Attachment(self.container_id, self.ifname)


def _version_number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def parse_verb(environment: Mapping[str, str]) -> Verb:
    """The verb; its absence or a wrong one is error 4."""
    text = environment.get("CNI_COMMAND", "")
    try:
        return Verb(text)
    except ValueError:
        expected = ", ".join(v.value for v in Verb)
        raise CniError(
            Code.INVALID_ENVIRONMENT, f"CNI_COMMAND is {text!r}; expected one of {expected}"
        ) from None


def decode(stdin: bytes) -> dict[str, Any]:
    """The network configuration as JSON; anything but an object is error 6."""
    try:
        value = json.loads(stdin)
    except (ValueError, RecursionError) as error:
        what = str(error) if stdin.strip() else "it is empty"
        raise CniError(
            Code.DECODING_FAILURE,
            f"the network configuration on standard input is no JSON: {what}",
        ) from None
    if not isinstance(value, dict):
        raise CniError(
            Code.DECODING_FAILURE,
            f"the network configuration is {type(value).__name__}; expected a JSON object",
        )
    return value


def parse_version(conf: Mapping[str, Any]) -> str:
    """`cniVersion`, which defaults to 0.1.0; one that is not spoken is error 1."""
    version = conf.get("cniVersion") or "0.1.0"
    if version not in VERSIONS:
        expected = ", ".join(VERSIONS)
        said = repr(conf["cniVersion"]) if conf.get("cniVersion") else "missing (which means 0.1.0)"
        raise CniError(
            Code.INCOMPATIBLE_VERSION, f"cniVersion is {said}; expected one of {expected}"
        )
    assert isinstance(version, str)
    return version


def parse(environment: Mapping[str, str], stdin: bytes) -> Request:
    """Check one execution's parameters.

    DEL is lenient: whatever is not needed to find the attachment is not checked, so that a pod
    can always be deleted.

    Raises:
        CniError: with the specification's code, naming the field.
    """
    verb = parse_verb(environment)
    raw = decode(stdin)
    version = parse_version(raw)
    if _version_number(version) < _version_number(_OLDEST.get(verb, VERSIONS[0])):
        raise CniError(
            Code.INCOMPATIBLE_VERSION,
            f"CNI_COMMAND {verb.value} needs cniVersion {_OLDEST[verb]} or later; it is {version}",
        )
    conf = _network_conf(verb, version, raw, stdin)
    path = tuple(p for p in environment.get("CNI_PATH", "").split(":") if p)
    if verb not in _PER_CONTAINER:
        return Request(verb, conf, path=path, environment=dict(environment))
    container_id, ifname = _container(environment)
    netns = environment.get("CNI_NETNS", "")
    if not netns and verb is not Verb.DEL:
        raise CniError(
            Code.INVALID_ENVIRONMENT,
            "CNI_NETNS is missing; expected the path of the container's network namespace",
        )
    pod = _pod(environment.get("CNI_ARGS", ""), verb)
    return Request(verb, conf, container_id, ifname, netns, pod, path, dict(environment))


def _network_conf(verb: Verb, version: str, raw: dict[str, Any], stdin: bytes) -> NetworkConf:
    name = raw.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise _invalid("name", name, "the network's name: letters, digits, '_', '.', '-'")
    if verb is Verb.DEL:
        ipam = raw.get("ipam")
        return NetworkConf(version, name, ipam=ipam if isinstance(ipam, dict) else None, raw=stdin)
    unknown = sorted(k for k in raw if k not in KNOWN_FIELDS and "/" not in k)
    if unknown:
        raise CniError(
            Code.UNSUPPORTED_FIELD,
            f"{unknown[0]}: {json.dumps(raw[unknown[0]])} is not supported; ovsnet knows "
            + ", ".join(sorted(KNOWN_FIELDS)),
        )
    ipam = _object(raw, "ipam")
    if ipam:
        kind = ipam.get("type")
        if not isinstance(kind, str) or not _NAME.fullmatch(kind):
            raise _invalid("ipam.type", kind, "the name of an IPAM plugin")
        if kind == PLUGIN_TYPE:
            ipam = None
    prev_result = _object(raw, "prevResult")
    if verb is Verb.ADD and prev_result is not None:
        raise CniError(
            Code.INVALID_CONFIG,
            "prevResult: ovsnet makes the pod's interface and must be the first plugin of the list",
        )
    return NetworkConf(
        version,
        name,
        ipam=ipam or None,
        dns=_object(raw, "dns") or {},
        prev_result=prev_result,
        valid_attachments=_attachments(raw) if verb is Verb.GC else None,
        shaping=shaping.parse((_object(raw, "runtimeConfig") or {}).get("bandwidth")),
        raw=stdin,
    )


def _invalid(name: str, value: object, expected: str) -> CniError:
    said = "missing" if value is None else json.dumps(value)
    return CniError(Code.INVALID_CONFIG, f"{name} is {said}; expected {expected}")


def _object(raw: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    value = raw.get(name)
    if value is not None and not isinstance(value, dict):
        raise _invalid(name, value, "a JSON object")
    return value


def _attachments(raw: Mapping[str, Any]) -> frozenset[Attachment] | None:
    """The attachments that GC must keep; None if there is no list, which is not an empty one.

    libcni leaves the list out, or writes null, if its caller gave none.
    """
    value = raw.get(ATTACHMENTS)
    if value is None:
        return None
    try:
        if not isinstance(value, list):
            raise TypeError
        return frozenset(Attachment(str(a["containerID"]), str(a["ifname"])) for a in value)
    except (TypeError, KeyError):
        raise _invalid(
            ATTACHMENTS, value, "a list of objects with containerID and ifname"
        ) from None


def _container(environment: Mapping[str, str]) -> tuple[str, str]:
    container_id = environment.get("CNI_CONTAINERID", "")
    if not _CONTAINER_ID.fullmatch(container_id):
        said = repr(container_id) if container_id else "missing"
        raise CniError(
            Code.INVALID_ENVIRONMENT,
            f"CNI_CONTAINERID is {said}; expected letters, digits, '_', '.', '-'",
        )
    ifname = environment.get("CNI_IFNAME", "")
    bad = (
        not ifname
        or len(ifname) > IFNAMSIZ
        or ifname in {".", ".."}
        or any(c in "/:" or c.isspace() or not c.isprintable() for c in ifname)
    )
    if bad:
        said = repr(ifname) if ifname else "missing"
        raise CniError(
            Code.INVALID_ENVIRONMENT,
            f"CNI_IFNAME is {said}; expected an interface name of 1 to {IFNAMSIZ} characters"
            " without '/', ':' and spaces",
        )
    return container_id, ifname


def _pod(args: str, verb: Verb) -> PodRef | None:
    """The pod's identity out of CNI_ARGS (`KEY=VALUE;KEY=VALUE`), required for ADD alone."""
    pairs = dict(p.split("=", 1) for p in args.split(";") if "=" in p)
    keys = ("K8S_POD_NAMESPACE", "K8S_POD_NAME", "K8S_POD_UID")
    missing = [k for k in keys if not pairs.get(k)]
    if not missing:
        return PodRef(*(pairs[k] for k in keys))
    if verb is Verb.ADD:
        raise CniError(
            Code.INVALID_ENVIRONMENT,
            f"CNI_ARGS lacks {', '.join(missing)}; expected the pod's identity as the container"
            " runtime passes it: " + ";".join(f"{k}=…" for k in keys),
        )
    return None
