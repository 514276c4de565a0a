"""Provides the container runtime with what it executes and reads: the plugin, and the network
configuration.
"""

from __future__ import annotations

import json
from pathlib import Path

from ovsnet import logs
from ovsnet.cni import datapath, install, runtime
from ovsnet.cni.conf import VERSIONS
from ovsnet.cni.config import Config
from ovsnet.cni.node import Waiting
from ovsnet.cni.trail import TrailKeeper

_log = logs.get("provision")


class Provision:
    """Keeps these files as they must be. For one thread."""

    def __init__(self, config: Config, trail: TrailKeeper) -> None:
        self._config = config
        self._trail = trail
        self._spoken: dict[Path, tuple[int, list[str]]] = {}
        self._unconfigured = ""
        self._interpreter = ""

    def install_plugin(self) -> None:
        """Put the plugin, its Python and what others' plugins the host lacks in their places.

        Raises:
            Waiting: something cannot be put there.
            OSError: the same.
        """
        config = self._config
        directory = Path(config.cni_bin_dir)
        path = directory / "ovsnet"
        if not Path(self._interpreter).is_file():
            try:
                self._interpreter = runtime.interpreter(config.interpreter, directory)
            except runtime.BringError as error:
                raise Waiting(f"Python for the plugin cannot be put in place: {error}") from None
        text = install.plugin_text(self._interpreter, config.socket, config.patience)
        if install.write(path, text, 0o755):
            _log.info("plugin installed", path=path, interpreter=self._interpreter)
            runtime.remove_others(self._interpreter, directory)
        if config.plugins:
            wanted = (install.LOOPBACK, *config.chain)
            for name in install.bring(Path(config.plugins), directory, wanted, self._trail.brings):
                _log.info("plugin brought, which the host lacked", path=directory / name)

    def _versions(self, executable: Path) -> list[str]:
        """The versions that a plugin speaks; it is asked again only if the file has changed."""
        changed = executable.stat().st_mtime_ns
        known = self._spoken.get(executable)
        if known is None or known[0] != changed:
            known = self._spoken[executable] = changed, install.plugin_versions(executable)
        return known[1]

    def write_configuration(self) -> bool:
        """Write the network configuration, for the first time when the switch has flows; False if
        it has none.

        Raises:
            Waiting: none can be written.
        """
        config = self._config
        path = Path(config.cni_conf_dir) / config.cni_conf_name
        if not path.exists() and not datapath.has_flows(Path(config.ovs_rundir), config.bridge):
            reason = "the controller has not programmed the switch yet"
            if reason != self._unconfigured:
                _log.warning("network configuration not written yet", reason=reason)
            self._unconfigured = reason
            return False
        chain = []
        for kind in config.chain:
            executable = Path(config.cni_bin_dir) / kind
            if executable.exists():
                spoken = self._versions(executable)
                chain.append((kind, [v for v in VERSIONS if v in spoken]))
        try:
            value = install.configuration(config.network, chain)
        except ValueError as error:
            raise Waiting(f"no network configuration can be written: {error}") from None
        if install.write(path, json.dumps(value, indent=2) + "\n", 0o644):
            _log.info("network configuration written", path=path)
        return True
