"""TCP connections of one network namespace, led to a port of another."""

from __future__ import annotations

import asyncio
import contextlib
import socket

_CHUNK = 1 << 16


async def serve(listener: socket.socket, host: str, port: int) -> asyncio.Server:
    """Lead whatever connects to `listener` to that address of the namespace that we are in."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(host, port)
        except OSError:
            # Refused there, so refused here.
            writer.transport.abort()
            return
        await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))

    return await asyncio.start_server(accept, sock=listener)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until the sender has no more, or either side is gone."""
    with contextlib.suppress(OSError):
        while chunk := await reader.read(_CHUNK):
            writer.write(chunk)
            await writer.drain()
    with contextlib.suppress(OSError):
        writer.close()
