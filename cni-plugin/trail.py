"""What the agent leaves on its node that cannot be told from what others have, written down so
that `uninstall` can take it back: where it was told to put things, plugins of others that it
brought, and what settings of the kernel were before.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from ovsnet import logs
from ovsnet.cni import install
from ovsnet.cni.config import Config

_log = logs.get("trail")
FILE = "trail.json"
"""Its name in the agent's directory."""


class Places(msgspec.Struct, frozen=True):
    """Where the agent was told to put things, and where it finds Open vSwitch. All are paths, but
    for the bridges' names.
    """

    configuration: str
    plugins: str
    socket: str
    ovsdb: str
    rundir: str
    bridge: str
    underlay_bridge: str = ""

    @classmethod
    def of(cls, config: Config) -> Places:
        """Those of a configuration."""
        return cls(
            configuration=str(Path(config.cni_conf_dir) / config.cni_conf_name),
            plugins=config.cni_bin_dir,
            socket=config.socket,
            ovsdb=config.ovsdb,
            rundir=config.ovs_rundir,
            bridge=config.bridge,
            underlay_bridge=config.underlay_bridge,
        )


class Setting(msgspec.Struct, frozen=True):
    """A setting below /proc/sys/net that the agent has changed."""

    name: str
    before: str
    since: str


class Trail(msgspec.Struct, frozen=True):
    """All of it. `settings` are in the order in which they were changed, since the boot `boot`."""

    places: Places
    boot: str = ""
    plugins: tuple[str, ...] = ()
    settings: tuple[Setting, ...] = ()

    def brought(self, name: str) -> Trail:
        """With a plugin that was brought."""
        if name in self.plugins:
            return self
        return msgspec.structs.replace(self, plugins=(*self.plugins, name))

    def changed(self, setting: Setting) -> Trail:
        """With a setting that was changed. What it was before the first time counts."""
        former = next((s for s in self.settings if s.name == setting.name), setting)
        now = msgspec.structs.replace(setting, before=former.before)
        others = tuple(s for s in self.settings if s.name != setting.name)
        return msgspec.structs.replace(self, settings=(*others, now))

    def since(self, places: Places, boot: str) -> Trail:
        """Of an agent that starts: with its places, and without settings that a boot has undone."""
        settings = self.settings if boot == self.boot else ()
        return msgspec.structs.replace(self, places=places, boot=boot, settings=settings)


def read(state: Path) -> Trail:
    """The trail in the agent's directory; where there is none, that of an agent with the options'
    defaults.

    Raises:
        OSError, ValueError: it cannot be read.
    """
    try:
        return msgspec.json.decode((state / FILE).read_bytes(), type=Trail)
    except FileNotFoundError:
        return Trail(Places.of(Config()))


class TrailKeeper:
    """Keeps the trail in the agent's directory. For one thread."""

    def __init__(self, state: Path, places: Places, boot: str) -> None:
        """`boot` tells one boot of the node from another.

        Raises:
            OSError: what there is cannot be read, or nothing can be written.
        """
        self._path = state / FILE
        try:
            known = read(state)
        except ValueError as error:
            _log.warning("the trail cannot be read; it begins anew", path=self._path, reason=error)
            known = Trail(places)
        self._write(known.since(places, boot))

    def brings(self, name: str) -> None:
        """Note a plugin before it is brought."""
        self._write(self._trail.brought(name))

    def changes(self, name: str, before: str, since: str) -> None:
        """Note a setting before it is changed."""
        self._write(self._trail.changed(Setting(name, before, since)))

    def _write(self, trail: Trail) -> None:
        install.write(self._path, msgspec.json.encode(trail).decode() + "\n", 0o600)
        self._trail = trail
