"""Takes away what the agent has brought to its node: `python -m ovsnet.cni.uninstall`.

For when the agent is gone for good and Open vSwitch still runs. First goes what makes the container
runtime use the network, then the switch, then what the kernel has of it, the agent's files last, as
they say what else there is. Everything may be repeated, and what cannot be done holds up nothing
else. Pods that still run lose their interfaces.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click

from ovsnet import logs, names
from ovsnet.cni import (
    bridging,
    links,
    netns,
    nft,
    packetfilter,
    routing,
    runtime,
    sslrow,
    uplink,
    wayback,
)
from ovsnet.cni import ports as limits
from ovsnet.cni import trail as trails
from ovsnet.cni.edges import no_checkpoint
from ovsnet.cni.netlink import Netlink, NetlinkError
from ovsnet.cni.nft import PacketFilterError
from ovsnet.cni.openvswitch import OWN_SOCKET, SAVED, answers, runs, told_to_end
from ovsnet.cni.ovsdb import Database, DatabaseUnreachable, TransactionError
from ovsnet.cni.trail import Places, Trail

_log = logs.get("uninstall")
_SWITCH_SECONDS = 10.0
_OPEN_VSWITCH_SECONDS = 25.0
_AGAIN = 2.0
_OWN_OPEN_VSWITCH = "openvswitch"
"""Directory of the database, below the agent's, of an Open vSwitch that the network brought."""
_FILES = ("db.sock", OWN_SOCKET, SAVED, "*.ctl", "*.pid", "*.mgmt", "*.snoop")
"""Open vSwitch's files in its directory of what runs."""

_Step = tuple[str, Callable[[], None]]


class LeftError(Exception):
    """Something is left; the text says what, and why."""


def uninstall(state: Path, checkpoint: Callable[[str], None] = no_checkpoint) -> list[str]:
    """Take everything away but Open vSwitch, if it is the network's own, and its database.

    `state` is the agent's directory; `checkpoint` is told of each step that is done. Returns what
    could not be done, in words; nothing is lost by then, and it can be tried again.
    """
    try:
        trail = trails.read(state)
    except (OSError, ValueError) as error:
        return [f"{state}: {error}"]
    if answers(Path(trail.places.socket)):
        return [f"the agent still runs and listens on {trail.places.socket}"]
    database = Database(Path(trail.places.ovsdb))
    in_switch: _Step = ("switch", lambda: _empty(database, trail.places))
    runs = Path(trail.places.ovsdb).exists()
    if not runs:
        _log.info(
            "Open vSwitch does not run; what its database has stays", socket=trail.places.ovsdb
        )
    if not trail.boot:
        _log.info("no agent has left word of kernel settings; they stay as they are", state=state)
    steps: tuple[_Step, ...] = (
        ("network configuration", lambda: _unlink(Path(trail.places.configuration))),
        ("plugins", lambda: _remove_plugins(trail)),
        ("underlay's bridge", lambda: _release_underlay(database, trail.places, checkpoint)),
        *((in_switch,) if runs else ()),
        ("links", lambda: _remove_links(trail.places.bridge)),
        ("packet filter", _remove_tables),
        ("kernel settings", lambda: _restore_settings(trail)),
    )
    failed = []
    for what, step in steps:
        try:
            step()
        except _ERRORS as error:
            failed.append(f"{what}: {error}")
        checkpoint(what)
    database.close()
    if not failed:
        _unlink(Path(trail.places.socket))
        _remove_if_empty(Path(trail.places.socket).parent)
        _remove_files(state)
        _log.info("everything of the agent is gone", state=state)
    return failed


_ERRORS = (
    OSError,
    LeftError,
    NetlinkError,
    PacketFilterError,
    DatabaseUnreachable,
    TransactionError,
)


def _unlink(path: Path) -> None:
    path.unlink(missing_ok=True)


def _remove_plugins(trail: Trail) -> None:
    directory = Path(trail.places.plugins)
    for name in ("ovsnet", *trail.plugins):
        _unlink(directory / name)
        _unlink(directory / f".{name}.new")
    runtime.remove_others("", directory)


def _release_underlay(
    database: Database, places: Places, checkpoint: Callable[[str], None]
) -> None:
    """Let addresses and routes lead by the underlay device again, before the switch goes; also if
    that does not run, for the node needs its own network whatever else is left.
    """
    try:
        made = list(uplink.read(database).made())
    except DatabaseUnreachable:
        made = [name for name in (places.underlay_bridge,) if name]
    with Netlink() as netlink:
        for name in made:
            bridging.release(netlink, database, name, checkpoint)


def _empty(database: Database, places: Places) -> None:
    """Take out of the database what the agent wrote, and see that the switch has followed."""
    bridge = uplink.remove(places.bridge, uplink.read(database))
    if bridge:
        database.transact([*bridge, uplink.ASK_FOR_A_LOOK])
    # While there are ports, limits cannot go.
    rest = [*limits.remove_limits(database), *sslrow.remove(database)]
    if rest:
        database.transact(rest)
    if not _comes_true(lambda: uplink.looked(database), _SWITCH_SECONDS):
        raise LeftError(f"ovs-vswitchd has not taken {places.bridge} away")


def _comes_true(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether the condition comes true in that time."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def _remove_links(bridge: str) -> None:
    """Remove pods' pairs and rules, and the switch's own ports, which it leaves if it was not
    running when they were taken from it. Routes go with them.
    """
    with Netlink() as netlink:
        rules = [routing.delete_rule(r) for r in routing.rules(netlink, wayback.TABLE)]
        pairs = links.delete_group(links.ENDPOINTS, "all pods' pairs")
        own = [links.delete_link(name) for name in (names.GATEWAY_PORT, bridge)]
        netlink.run([*rules, pairs, *own])


def _remove_tables() -> None:
    for name in (packetfilter.TABLE, bridging.REPEATED):
        nft.run(["-f", "-"], f"table inet {name}\ndelete table inet {name}\n")


def _restore_settings(trail: Trail) -> None:
    """Give settings back that are still as the agent has left them, the last changed one first."""
    for setting in reversed(trail.settings):
        with contextlib.suppress(FileNotFoundError):
            if netns.read_sysctl(setting.name) == setting.since:
                netns.write_sysctl(setting.name, setting.before)


def _remove_files(state: Path) -> None:
    """The agent's directory, but for the database of an Open vSwitch that runs on it. The trail is
    the last, as without it nobody knows where to look.
    """
    with contextlib.suppress(FileNotFoundError):
        for path in sorted(state.iterdir(), key=lambda path: path.name == trails.FILE):
            if path.name != _OWN_OPEN_VSWITCH:
                _remove_tree(path)
        _remove_if_empty(state)


def _remove_if_empty(directory: Path) -> None:
    with contextlib.suppress(OSError):
        directory.rmdir()


def _remove_tree(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        _unlink(path)


def remove_open_vswitch(state: Path, rundir: Path) -> None:
    """Remove the files of an Open vSwitch that the network brought, once it has ended.

    Raises:
        LeftError: it does not end, or another runs there.
    """
    own = state / _OWN_OPEN_VSWITCH
    if not own.is_dir():
        return
    # Where the host has its own, the directory is there too, without a database.
    if (own / "conf.db").exists():
        if not _comes_true(lambda: not runs(rundir), _OPEN_VSWITCH_SECONDS):
            raise LeftError(f"Open vSwitch still runs and listens in {rundir}")
        for pattern in _FILES:
            for path in rundir.glob(pattern):
                _unlink(path)
        _remove_if_empty(rundir)
    _remove_tree(state)
    _log.info("everything of Open vSwitch is gone", state=state, rundir=rundir)


@click.command()
@click.option(
    "--state-dir",
    "state",
    type=click.Path(path_type=Path),
    default=Path("/var/lib/ovsnet"),
    show_default=True,
    help="The agent's directory, which says where everything else is.",
)
@click.option(
    "--stay",
    type=click.Path(path_type=Path),
    help="Try until all is gone, make this file then, and stay until told to end; then wait for "
    "the network's own Open vSwitch to end too, and remove its files.",
)
def main(state: Path, stay: Path | None) -> None:
    """Take away what ovsnet has brought to this node."""
    logs.configure(sys.stderr)
    try:
        rundir = Path(trails.read(state).places.rundir)
    except (OSError, ValueError) as error:
        raise click.ClickException(f"{state}: {error}") from None
    ending = told_to_end()
    failed = uninstall(state)
    while failed and stay is not None and not ending.wait(_AGAIN):
        _log.warning("something is left", what=failed)
        failed = uninstall(state)
    if failed:
        raise click.ClickException("; ".join(failed))
    if stay is None:
        return
    stay.touch()
    ending.wait()
    try:
        remove_open_vswitch(state, rundir)
    except LeftError as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    main()
