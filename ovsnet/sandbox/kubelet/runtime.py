"""Executing the plugins of a network as a container runtime does.

CNI spec 1.1.0, sections 2 and 3; the environment and its order are those of containerd's CRI
plugin, so that a plugin cannot tell the difference.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ovsnet.sandbox.kubelet import conflist
from ovsnet.sandbox.kubelet.conflist import Json, NetworkList
from ovsnet.sandbox.kubelet.sandboxes import Target

INTERFACE = "eth0"
_FAILED_WITHOUT_ERROR = 100
_EXECUTION_SECONDS = 60.0


class PluginError(Exception):
    """A plugin failed. `code` is the specification's; the text is the plugin's message."""

    def __init__(self, plugin: str, code: int, message: str) -> None:
        super().__init__(f'plugin type="{plugin}" failed (code {code}): {message}')
        self.code = code


def variables(verb: str, target: Target | None, plugins: Path) -> dict[str, str]:
    """The CNI_ variables of one execution; empty where a verb is about no container."""
    return {
        "CNI_COMMAND": verb,
        "CNI_CONTAINERID": target.container_id if target else "",
        "CNI_NETNS": target.netns if target else "",
        "CNI_ARGS": target.arguments if target else "",
        "CNI_IFNAME": INTERFACE if target else "",
        "CNI_PATH": str(plugins),
    }


def error_of(plugin: str, status: int, output: bytes, errors: bytes) -> PluginError:
    """The error that a plugin's output tells of, or what is known where it tells nothing."""
    with contextlib.suppress(ValueError, TypeError, AttributeError):
        document = json.loads(output)
        message = ": ".join(t for t in (document.get("msg"), document.get("details")) if t)
        return PluginError(plugin, int(document["code"]), message)
    words = (errors or output).decode(errors="replace").strip() or "it said nothing"
    return PluginError(plugin, _FAILED_WITHOUT_ERROR, f"exit status {status}: {words}")


class Runtime:
    """Executes the network of `configuration` with the plugins in `plugins`.

    Every verb raises `ConflistError` where there is no network configuration and `PluginError`
    where a plugin failed.
    """

    def __init__(self, configuration: Path, plugins: Path) -> None:
        self._configuration = configuration
        self._plugins = plugins

    def network(self) -> NetworkList:
        """The network as the configuration directory has it now."""
        return conflist.load(self._configuration)

    async def add(self, target: Target, capabilities: Mapping[str, Any]) -> Json:
        """Attach a container; the result is the last plugin's."""
        network = self.network()
        result: Json | None = None
        for plugin in network.plugins:
            stdin = conflist.plugin_configuration(network, plugin, result, capabilities)
            result = await self._execute("ADD", plugin["type"], stdin, target)
        assert result is not None, "a network has at least one plugin"
        return result

    async def check(self, target: Target, result: Json, capabilities: Mapping[str, Any]) -> None:
        """Ask every plugin whether the attachment is still as ADD left it."""
        network = self.network()
        if network.disable_check or not network.passes_result_to_del:
            return
        for plugin in network.plugins:
            stdin = conflist.plugin_configuration(network, plugin, result, capabilities)
            await self._execute("CHECK", plugin["type"], stdin, target)

    async def delete(
        self, target: Target, result: Json | None, capabilities: Mapping[str, Any]
    ) -> None:
        """Detach a container, the last plugin first. `result` is what ADD gave, if it did."""
        network = self.network()
        previous = result if network.passes_result_to_del else None
        for plugin in reversed(network.plugins):
            stdin = conflist.plugin_configuration(network, plugin, previous, capabilities)
            await self._execute("DEL", plugin["type"], stdin, target)

    async def gc(self, valid: Sequence[str]) -> None:
        """Let the plugins drop whatever belongs to none of these containers."""
        network = self.network()
        if network.disable_gc or not network.has_gc_and_status:
            return
        extra = conflist.attachments(valid, INTERFACE)
        for plugin in network.plugins:
            stdin = conflist.plugin_configuration(network, plugin, extra=extra)
            await self._execute("GC", plugin["type"], stdin)

    async def status(self) -> None:
        """Ask the plugins whether they are ready for ADD."""
        network = self.network()
        if not network.has_gc_and_status:
            return
        for plugin in network.plugins:
            stdin = conflist.plugin_configuration(network, plugin)
            await self._execute("STATUS", plugin["type"], stdin)

    async def _execute(
        self, verb: str, plugin: str, stdin: Json, target: Target | None = None
    ) -> Json | None:
        try:
            process = await asyncio.create_subprocess_exec(
                self._plugins / plugin,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=os.environ | variables(verb, target, self._plugins),
            )
        except OSError as error:
            raise PluginError(
                plugin, _FAILED_WITHOUT_ERROR, f"cannot execute {self._plugins / plugin}: {error}"
            ) from error
        try:
            output, errors = await asyncio.wait_for(
                process.communicate(json.dumps(stdin).encode()), _EXECUTION_SECONDS
            )
        except TimeoutError:
            raise PluginError(
                plugin, _FAILED_WITHOUT_ERROR, f"{verb} took more than {_EXECUTION_SECONDS:g} s"
            ) from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            raise error_of(plugin, process.returncode, output, errors)
        if not output.strip():
            return None
        try:
            result: Json = json.loads(output)
        except ValueError as error:
            raise PluginError(plugin, _FAILED_WITHOUT_ERROR, f"no JSON result: {error}") from error
        return result
