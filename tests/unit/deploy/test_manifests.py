"""What is installed fits together: names, ports, rights, paths, options, and the rendered file."""

from __future__ import annotations

import configparser
import importlib.util
import json
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

import click
import pytest
import yaml

from ovsnet.cni import conf
from ovsnet.cni import config as agent_options
from ovsnet.cni.openvswitch import main as openvswitch_command
from ovsnet.cni.uninstall import main as uninstall_command
from ovsnet.controller.__main__ import main as controller_command

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
UNINSTALL = DEPLOY / "uninstall" / "uninstall.yaml"
READING = {"list", "watch"}

CONTROLLER_RIGHTS = {
    ("", "nodes", None): {"list", "watch"},
    ("", "namespaces", None): {"list", "watch"},
    ("", "pods", None): {"get", "list", "watch"},
    ("", "services", None): {"list", "watch"},
    ("networking.k8s.io", "networkpolicies", None): {"list", "watch"},
    ("discovery.k8s.io", "endpointslices", None): {"list", "watch"},
    ("", "events", None): {"create", "get", "patch"},
    ("authentication.k8s.io", "tokenreviews", None): {"create"},
    ("coordination.k8s.io", "leases", None): {"create"},
    ("coordination.k8s.io", "leases", "ovsnet-controller"): {"get", "update"},
    ("", "secrets", None): {"create"},
    ("", "secrets", "ovsnet-ca"): {"get", "update"},
    ("", "configmaps", None): {"create"},
    ("", "configmaps", "ovsnet-ca"): {"get", "update"},
}
NODE_RIGHTS = {
    ("", "nodes", None): READING,
    ("discovery.k8s.io", "endpointslices", None): READING,
    ("", "configmaps", "ovsnet-ca"): READING,
}
CLUSTER_WIDE = {
    "ovsnet-controller": {
        *("nodes", "namespaces", "pods", "services", "networkpolicies", "endpointslices"),
        *("events", "tokenreviews"),
    },
    "ovsnet-node": {"nodes"},
}


@pytest.fixture(scope="module")
def objects() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / "ovsnet.yaml").read_text()))


@pytest.fixture(scope="module")
def uninstall() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(UNINSTALL.read_text())
    return found


def of(objects: list[dict[str, Any]], kind: str, name: str = "") -> list[dict[str, Any]]:
    return [o for o in objects if o["kind"] == kind and name in ("", o["metadata"]["name"])]


def workloads(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return of(objects, "DaemonSet") + of(objects, "Deployment")


def pod(workload: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = workload["spec"]["template"]["spec"]
    return spec


def container(workload: dict[str, Any]) -> dict[str, Any]:
    (only,) = pod(workload)["containers"]
    found: dict[str, Any] = only
    return found


def configuration() -> ModuleType:
    specification = importlib.util.spec_from_file_location(
        "configuration", DEPLOY / "configuration.py"
    )
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_the_rendered_file_is_what_kustomize_makes(objects: list[dict[str, Any]]) -> None:
    command = ["kubectl", "kustomize", str(DEPLOY)]
    made = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert list(yaml.safe_load_all(made)) == objects, "`make manifests` writes it"


def test_uninstalling_can_be_rendered(uninstall: dict[str, Any]) -> None:
    command = ["kubectl", "kustomize", str(UNINSTALL.parent)]
    made = yaml.safe_load(subprocess.run(command, capture_output=True, check=True).stdout)
    assert made["metadata"].pop("namespace") == "ovsnet-system"
    assert made == uninstall


def test_the_files_explain_every_option_there_is() -> None:
    for path, text in configuration().files().items():
        assert path.read_text() == text, "`make manifests` writes it"


def test_the_agents_file_loads() -> None:
    loaded = agent_options.load(DEPLOY / "config" / "agent.toml")
    assert loaded.controller_service == "ovsnet-system/ovsnet-controller"
    assert not loaded.plain


def controller_options() -> dict[str, Any]:
    arguments = ["--config", str(DEPLOY / "config" / "controller.toml")]
    parsed = controller_command.make_context("controller", arguments)
    return dict(parsed.params)


def test_the_controllers_file_loads() -> None:
    options = controller_options()
    assert options["plain"] is False
    agent = agent_options.load(DEPLOY / "config" / "agent.toml")
    assert [str(net) for net in options["services"]] == list(agent.services)
    assert options["node_ports"] == agent.redirected_ports


def test_an_unknown_option_of_the_controller_is_named(tmp_path: Path) -> None:
    (tmp_path / "wrong.toml").write_text("audt = 5\n")
    with pytest.raises(click.BadParameter, match=r"no such option: audt"):
        controller_command.make_context("controller", ["--config", str(tmp_path / "wrong.toml")])


def rights(objects: list[dict[str, Any]], name: str) -> Iterator[tuple[Any, set[str]]]:
    for role in of(objects, "ClusterRole", name) + of(objects, "Role", name):
        for rule in role["rules"]:
            assert rule.keys() <= {"apiGroups", "resources", "resourceNames", "verbs"}
            for group in rule["apiGroups"]:
                for resource in rule["resources"]:
                    for named in rule.get("resourceNames", [None]):
                        yield (group, resource, named), set(rule["verbs"])


@pytest.mark.parametrize(
    ("name", "expected"),
    [("ovsnet-controller", CONTROLLER_RIGHTS), ("ovsnet-node", NODE_RIGHTS)],
)
def test_an_account_has_these_rights_and_no_more(
    objects: list[dict[str, Any]], name: str, expected: dict[Any, set[str]]
) -> None:
    found: dict[Any, set[str]] = {}
    for what, verbs in rights(objects, name):
        found.setdefault(what, set()).update(verbs)
    assert found == expected
    everywhere = {
        resource
        for role in of(objects, "ClusterRole", name)
        for rule in role["rules"]
        for resource in rule["resources"]
    }
    assert everywhere == CLUSTER_WIDE[name]


def test_the_nodes_account_writes_nothing(objects: list[dict[str, Any]]) -> None:
    assert all(verbs <= READING for _, verbs in rights(objects, "ovsnet-node"))


def test_every_binding_is_of_a_role_and_an_account_that_are_there(
    objects: list[dict[str, Any]],
) -> None:
    bindings = of(objects, "ClusterRoleBinding") + of(objects, "RoleBinding")
    assert len(bindings) == 4
    for binding in bindings:
        (role,) = of(objects, binding["roleRef"]["kind"], binding["roleRef"]["name"])
        assert role["metadata"].get("namespace") == binding["metadata"].get("namespace")
        (subject,) = binding["subjects"]
        (account,) = of(objects, "ServiceAccount", subject["name"])
        assert account["metadata"]["namespace"] == subject["namespace"]
        assert account["metadata"]["name"] == binding["roleRef"]["name"]


def test_accounts_are_used_by_those_they_are_for(objects: list[dict[str, Any]]) -> None:
    used = {w["metadata"]["name"]: pod(w).get("serviceAccountName") for w in workloads(objects)}
    assert used == {
        "ovsnet-node": "ovsnet-node",
        "ovsnet-controller": "ovsnet-controller",
        "ovsnet-openvswitch": None,
    }


def test_ports_agree(objects: list[dict[str, Any]]) -> None:
    (service,) = of(objects, "Service")
    (controller,) = of(objects, "Deployment")
    options = controller_options()
    ports = {p["name"]: p["containerPort"] for p in container(controller)["ports"]}
    assert ports == {"openflow": options["listen"][0][1], "agents": options["agents_at"][1]}
    assert {p["name"]: p["port"] for p in service["spec"]["ports"]} == ports
    assert {p["targetPort"] for p in service["spec"]["ports"]} == ports.keys()
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    probes = [
        container(controller)[f"{kind}Probe"] for kind in ("startup", "liveness", "readiness")
    ]
    assert {(p["httpGet"]["host"], p["httpGet"]["port"]) for p in probes} == {options["http"]}


def test_selectors_select_what_they_are_for(
    objects: list[dict[str, Any]], uninstall: dict[str, Any]
) -> None:
    labels = set()
    for workload in [*workloads(objects), uninstall]:
        own = workload["spec"]["template"]["metadata"]["labels"]
        assert workload["spec"]["selector"]["matchLabels"] == own
        assert own["app.kubernetes.io/name"] == "ovsnet"
        labels.add(own["app.kubernetes.io/component"])
    assert labels == {"controller", "node", "openvswitch", "uninstall"}
    (controller,) = of(objects, "Deployment")
    own = controller["spec"]["template"]["metadata"]["labels"]
    (service,) = of(objects, "Service")
    (budget,) = of(objects, "PodDisruptionBudget")
    (apart,) = pod(controller)["affinity"]["podAntiAffinity"][
        "requiredDuringSchedulingIgnoredDuringExecution"
    ]
    assert service["spec"]["selector"] == own
    assert budget["spec"]["selector"]["matchLabels"] == own
    assert apart["labelSelector"]["matchLabels"] == own


def test_all_is_one_image_of_this_version(
    objects: list[dict[str, Any]], uninstall: dict[str, Any]
) -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    image = f"ghcr.io/ovsnet/ovsnet:{setup['metadata']['version']}"
    assert {container(w)["image"] for w in [*workloads(objects), uninstall]} == {image}


def test_all_is_in_one_namespace(objects: list[dict[str, Any]]) -> None:
    everywhere = {"Namespace", "ClusterRole", "ClusterRoleBinding"}
    namespaces = {o["metadata"].get("namespace") for o in objects if o["kind"] not in everywhere}
    (namespace,) = of(objects, "Namespace")
    assert namespaces == {namespace["metadata"]["name"]}
    level = namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
    assert level == "privileged"


def test_the_datapath_is_not_rolled_with_the_agent(objects: list[dict[str, Any]]) -> None:
    strategies = {
        w["metadata"]["name"]: w["spec"]["updateStrategy"]["type"] for w in of(objects, "DaemonSet")
    }
    assert strategies == {"ovsnet-node": "RollingUpdate", "ovsnet-openvswitch": "OnDelete"}


def test_every_node_gets_it_and_nothing_pushes_it_away(
    objects: list[dict[str, Any]], uninstall: dict[str, Any]
) -> None:
    for workload in [*of(objects, "DaemonSet"), uninstall]:
        assert pod(workload)["tolerations"] == [{"operator": "Exists"}]
        assert pod(workload)["priorityClassName"] == "system-node-critical"
        assert pod(workload)["hostNetwork"] is True


def test_the_controller_has_no_privileges(objects: list[dict[str, Any]]) -> None:
    (controller,) = of(objects, "Deployment")
    context = container(controller)["securityContext"]
    assert context["readOnlyRootFilesystem"] is True
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert pod(controller)["securityContext"]["runAsNonRoot"] is True
    assert pod(controller)["securityContext"]["runAsUser"] > 0
    assert not [v for v in pod(controller)["volumes"] if "hostPath" in v]


def host_paths(workload: dict[str, Any]) -> dict[PurePosixPath, str]:
    """What of the host is where in the container."""
    volumes = {v["name"]: v.get("hostPath", {}).get("path", "") for v in pod(workload)["volumes"]}
    mounts = container(workload)["volumeMounts"]
    return {PurePosixPath(m["mountPath"]): volumes[m["name"]] for m in mounts}


def on_host(path: str, mounts: dict[PurePosixPath, str]) -> str:
    """Where a path in the container is on the host; empty if it is not there."""
    for mounted, host in mounts.items():
        if PurePosixPath(path).is_relative_to(mounted) and host:
            return str(PurePosixPath(host) / PurePosixPath(path).relative_to(mounted))
    return ""


@pytest.mark.parametrize("option", ["ovsdb", "socket", "state_dir", "cni_conf_dir", "cni_bin_dir"])
def test_the_agents_files_are_the_hosts_and_uninstalling_finds_them(
    objects: list[dict[str, Any]], uninstall: dict[str, Any], option: str
) -> None:
    (node,) = of(objects, "DaemonSet", "ovsnet-node")
    options = tomllib.loads((DEPLOY / "config" / "agent.toml").read_text())
    value = options[option]
    there = on_host(value, host_paths(node))
    assert there == value.replace("/var/run/", "/run/")
    assert on_host(value.replace("/var/run/", "/run/"), host_paths(uninstall)) == there


def test_the_agents_token_is_for_the_controller(objects: list[dict[str, Any]]) -> None:
    (node,) = of(objects, "DaemonSet", "ovsnet-node")
    options = tomllib.loads((DEPLOY / "config" / "agent.toml").read_text())
    (volume,) = (v for v in pod(node)["volumes"] if "projected" in v)
    (mount,) = (m for m in container(node)["volumeMounts"] if m["name"] == volume["name"])
    (source,) = volume["projected"]["sources"]
    token = source["serviceAccountToken"]
    assert f"{mount['mountPath']}/{token['path']}" == options["token"]
    assert token["audience"] == "ovsnet-controller"


def test_open_vswitch_is_where_the_agent_looks_for_it(objects: list[dict[str, Any]]) -> None:
    (switch,) = of(objects, "DaemonSet", "ovsnet-openvswitch")
    (node,) = of(objects, "DaemonSet", "ovsnet-node")
    options = tomllib.loads((DEPLOY / "config" / "agent.toml").read_text())
    for path in (options["ovsdb"], f"{options['state_dir']}/tls"):
        assert on_host(path, host_paths(switch)) == on_host(path, host_paths(node)) != ""
    # Uninstalling knows the network's own by this.
    database = on_host("/etc/openvswitch/conf.db", host_paths(switch))
    assert database == f"{options['state_dir']}/openvswitch/conf.db"


def test_the_agents_probe_executes_the_plugin_that_the_agent_installs(
    objects: list[dict[str, Any]],
) -> None:
    (node,) = of(objects, "DaemonSet", "ovsnet-node")
    options = agent_options.load(DEPLOY / "config" / "agent.toml")
    shell = container(node)["readinessProbe"]["exec"]["command"][-1]
    asked, _, called = shell.partition("|")
    directory = options.cni_bin_dir
    assert called.split()[-2:] == [f"CNI_PATH={directory}", f"{directory}/ovsnet"]
    assert "CNI_COMMAND=STATUS" in called.split()
    configuration = json.loads(asked.partition("'")[2].rpartition("'")[0])
    assert configuration["name"] == options.network
    assert configuration["type"] == conf.PLUGIN_TYPE
    assert configuration["cniVersion"] in conf.VERSIONS


def test_uninstalling_is_ready_when_it_says_so(uninstall: dict[str, Any]) -> None:
    only = container(uninstall)
    parsed = uninstall_command.make_context("uninstall", list(only["args"]))
    assert only["readinessProbe"]["exec"]["command"] == ["test", "-e", str(parsed.params["stay"])]
    options = agent_options.load(DEPLOY / "config" / "agent.toml")
    assert str(parsed.params["state"]) == options.state_dir


def test_uninstalling_has_time_to_wait_for_open_vswitch(
    objects: list[dict[str, Any]], uninstall: dict[str, Any]
) -> None:
    (switch,) = of(objects, "DaemonSet", "ovsnet-openvswitch")
    seconds = "terminationGracePeriodSeconds"
    assert pod(uninstall)[seconds] > pod(switch)[seconds]


def test_commands_take_the_arguments_that_they_are_started_with(
    objects: list[dict[str, Any]],
) -> None:
    (switch,) = of(objects, "DaemonSet", "ovsnet-openvswitch")
    openvswitch_command.make_context("openvswitch", list(container(switch)["args"]))
    (controller,) = of(objects, "Deployment")
    options = {option for p in controller_command.params for option in p.opts}
    assert {argument.partition("=")[0] for argument in container(controller)["args"]} <= options
