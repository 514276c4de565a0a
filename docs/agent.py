"""Writes docs/agent.md: every option of the node agent and of the network configuration.

python docs/agent.py [FILE]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec
import msgspec.inspect as kinds

from ovsnet import names
from ovsnet.cni import conf, install, wayback
from ovsnet.cni.config import Config

FIELDS = {
    "cniVersion": "Protocol version; one of " + ", ".join(conf.VERSIONS) + ". Required.",
    "cniVersions": "Versions to choose from. For the runtime; the plugin does not look at it.",
    "name": "The network's name: letters, digits, `_`, `.`, `-`. Required.",
    "type": "`ovsnet`: the name of the plugin. Required, for the runtime.",
    "ipam": (
        "Who gives addresses. Absent, empty, or `type` = `ovsnet`: the agent, out of the node's"
        " podCIDRs. Another `type`: that IPAM plugin in CNI_PATH, whose addresses must lie in the"
        " node's podCIDRs, with the same host offset in both families, 3 or higher: 1 is the"
        " gateway's, 2 the node's service address."
    ),
    "dns": "Handed through to the result. Kubernetes does not use it.",
    "args": "Accepted and not used.",
    "capabilities": "For the runtime: what it shall hand on in `runtimeConfig`; ovsnet takes"
    " `bandwidth`.",
    "runtimeConfig": "Of its fields `bandwidth` is used: `ingressRate` and `egressRate` in bits per"
    " second limit what goes into the pod and what comes out of it, `ingressBurst` and"
    " `egressBurst` in bits are what may pass at once, at most a tenth of a second's worth. Others"
    " are not looked at.",
    "prevResult": "At CHECK, what ADD returned; compared with what there is. At ADD an error.",
    "disableCheck": "For the runtime: it does not call CHECK.",
    "disableGC": "For the runtime: it does not call GC.",
}
"""What a field of the network configuration means; `conf` accepts these and no others."""

_INTRO = """\
# The node agent and its configuration

Written by `make docs` from the code; do not edit it.

The agent runs on every node, beside Open vSwitch, as root and in the node's own network namespace.
It makes the bridge `br-int` with the gateway's and the tunnel's port, installs the plugin that
kubelet's container runtime executes, and does the plugin's work.

```
python -m ovsnet.cni.agent --config /etc/ovsnet/agent.toml
python -m ovsnet.cni.agent --explain-config
```

The first runs it, the second prints a file with all options, their defaults and their meaning, to
start from. Both are all the arguments there are. It ends on SIGTERM or SIGINT after it has finished
what is under way; pods, bridge and network configuration stay. An unknown option or a wrong value
in the file ends it at once:

```
$ echo 'deadlin = 5' > /tmp/agent.toml; python -m ovsnet.cni.agent --config /tmp/agent.toml
Error: /tmp/agent.toml: Object contains unknown field `deadlin`
```

## Options of the file

A TOML file without sections. Everything has a default, so the file may be empty, and without
`--config` there need not be one. Changes need a restart of the agent, which no pod notices.

| option | default | values | meaning |
|---|---|---|---|
"""

_BETWEEN = """
Some of these belong together with settings elsewhere:

- `cluster_cidrs` must be the ranges that kube-controller-manager gives nodes' podCIDRs out of
  (`--cluster-cidr`). What is outside of them is masqueraded.
- `services` must be kube-apiserver's `--service-cluster-ip-range`, `node_ports` its
  `--service-node-port-range`; the controllers' options of these names the same. Every packet for
  one of the node's addresses and a port of that range goes to the switch, whether there is such a
  service or not: the node's own daemons and host ports of pods cannot be reached there.
- `external` is for addresses that others send to the nodes: load balancers' and `externalIPs`. Pods
  reach all of these with or without it, nodes and the world only what lies in it. No node may have
  one of them on an interface of its own, or it would keep what comes for it.
- For services the agent has a routing rule (PRIORITY), a routing table (TABLE), one bit of the
  marks of packets and of tracked connections (MARK), the settings `rp_filter` and `accept_local` of
  the gateway's port, and the ports HEALTHY and UNHEALTHY of the gateway's address. Nobody else on
  the node should use them.
- `agents_urls` are where the agent reports which flows are in effect and is asked for its node's
  live connections. A controller believes it only with its node's certificate, or over plain HTTP
  if it speaks from one of the node's own addresses. With none, `ovsnet status` shows nothing of
  this node as settled.
- With `ssl:` among `controllers`, `https:` among `agents_urls`, or `controller_service` without
  `plain`, the agent gets a certificate for its node and has Open vSwitch use it; `authority` and
  `token` matter only then. `tcp:` and `http:` are plain text. See [security.md](security.md).
- With `controller_service` the agent follows that Service's EndpointSlices and keeps the switch's
  controllers, and those that it reports to, the same as its endpoints, ready or not. The Service's
  ports must be named `openflow` and `agents`. The last list is kept in `state_dir`, for an agent
  that starts while the API server is away; an empty one changes nothing. See
  [leadership.md](leadership.md).
- `apiserver` is for clusters without kube-proxy: nothing serves the API server's own service
  address on a node before ovsnet does.
- When flows are in effect the agent sees from what ovs-vswitchd's threads do (`/proc/PID/task`). It
  needs to be in the same PID namespace for that, and to have CAP_SYS_PTRACE. Without it reports are
  right all the same, but come up to 1 s later; with the kernel's datapath always up to 0.5 s later.
- `deadline` should stay below the runtime's own limit for a sandbox (kubelet: 4 minutes). The
  plugin waits 15 s longer than that for the agent, so that it can still hear why it failed.
- `mtu`: leave it at 0 unless the path between nodes carries less than their own devices say. The
  overhead is 50 bytes over IPv4 and 70 over IPv6.
- `interpreter` needs nothing but Python 3.11 or later, without packages.
- `underlay_bridge` matters with the userspace datapath; see [below](#the-underlays-bridge).

## The underlay's bridge

With the userspace datapath Open vSwitch sends the overlay's packets itself, and only by a bridge
whose own port has the underlay's address. `underlay_bridge = "br-phy"` has the agent make that
bridge, with the underlay device (`underlay`, or that of the default route) as its port and the
device's MAC. The bridge's port gets the device's addresses and permanent neighbours, and the routes
by the device lead by the bridge. Connections of the node stay; a route is put in the place of
another in one step.

The device **stands by** all the same: it keeps its addresses, and its routes are still there, those
of the main table in table 28535, which a rule (32768) looks up after all others, those of other
tables in the same table with a metric that is 268435456 higher.

- ovs-vswitchd ends, is updated, or never comes back: the kernel itself goes by the device at once;
  pods of other nodes are not reached, everything else is. With an agent there, packets for the
  node come in as soon; without one within the time that the packet filter's entry still has, 15 s,
  or three times `housekeeping` if that is more
- ovs-vswitchd returns: the agent lets everything lead by the bridge again
- the agent is killed at any step: the node is reached as before; the next agent goes on
- the host is rebooted: the device has what the host's own configuration gives it; the agent does
  as at first
- the device gets or loses an address or a route: the bridge follows with the next look
  (`housekeeping`)
- the kernel's datapath is there (`datapath = "auto"`), or the option is emptied: the agent takes
  the bridge away again

- Change addresses and routes at the device, not at the bridge. A route that is to go must go from
  both.
- Routes with several next hops stay at the device.
- While the bridge works, the node's own stack must not take in what arrives at the device a second
  time: the table `inet ovsnet-underlay` drops it. Its entry runs out if nobody renews it.
- A packet that the device has put together out of several is lost in Open vSwitch, so the agent
  turns generic and large receive offload off. If the device is a veth, its other end must complete
  checksums (`ethtool -K DEVICE tx off`); no real network device needs that.
- A bridge of that name that the agent has not made, or a device that is a port of another bridge,
  is left alone: the agent says so and waits. If you have such a bridge yourself, give its port the
  address, name it in `underlay`, and leave `underlay_bridge` empty.

## The network configuration

The agent writes it, as `10-ovsnet.conflist`, when the node can take pods, which is what makes
kubelet report the node as ready. It stays there when the agent or the controller stops. With
`chain = ["portmap"]` and portmap in `cni_bin_dir` it is:

```json
CONFLIST
```

A runtime gives one version to the whole list, so only versions that all its plugins speak are
offered: Debian's plugins (1.1.1) end at 1.0.0. Without them 1.1.0 is offered too, and with it GC
and STATUS.

Should you write one yourself, ovsnet must be the first plugin of the list. These are the fields it
knows; another one is error 2, so that a misspelt name does not go unnoticed. Names with a `/`, as
in `cni.dev/valid-attachments`, are the protocol's own and are let through.

| field | meaning |
|---|---|
"""


def _values(kind: Any) -> str:
    """The values that a type takes, in words."""
    match kind:
        case kinds.Metadata(type=inner):
            return _values(inner)
        case kinds.LiteralType(values=values):
            return ", ".join(f"`{value}`" for value in values)
        case kinds.VarTupleType(item_type=item):
            return f"a list of: {_values(item)}" if _values(item) != "text" else "a list of texts"
        case kinds.IntType(ge=least, le=most, lt=below):
            return f"{least} to {most if most is not None else below - 1}"
        case kinds.FloatType(ge=least, gt=above, le=most):
            return f"{least} to {most}" if above is None else f"above {above}, to {most}"
        case kinds.BoolType():
            return "`true`, `false`"
        case kinds.StrType():
            return "text"
    raise TypeError(f"no words for {kind}")


def _options() -> list[str]:
    rows = []
    for option in msgspec.inspect.type_info(Config).fields:  # type: ignore[attr-defined]
        meaning = option.type.extra_json_schema["description"]
        default = msgspec.json.encode(option.default).decode().replace(",", ", ")
        rows.append(f"| `{option.name}` | `{default}` | {_values(option.type)} | {meaning} |")
    return rows


def _between(example: str) -> str:
    text = _BETWEEN.replace("CONFLIST", example)
    for word, number in (
        ("PRIORITY", str(wayback.PRIORITY)),
        ("TABLE", str(wayback.TABLE)),
        ("MARK", hex(wayback.MARK)),
        ("UNHEALTHY", str(names.UNHEALTHY_PORT)),
        ("HEALTHY", str(names.HEALTHY_PORT)),
    ):
        text = text.replace(word, number)
    return text


def document() -> str:
    """The whole page.

    Raises:
        KeyError: a field of the network configuration has no explanation here.
    """
    chained = install.configuration("ovsnet", [("portmap", conf.VERSIONS[:-1])])
    example = msgspec.json.format(msgspec.json.encode(chained), indent=2).decode()
    fields = [f"| `{name}` | {FIELDS[name]} |" for name in sorted(conf.KNOWN_FIELDS)]
    return "".join(
        (
            _INTRO,
            "\n".join(_options()),
            "\n",
            _between(example),
            "\n".join(fields),
            "\n\nThe verbs and the error codes are in [cni.md](cni.md).\n",
        )
    )


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_suffix(".md")
    target.write_text(document())
