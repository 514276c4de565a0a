"""What the container runtime executes: passes the request to the node agent, prints its answer.

The agent installs this file with a first line that names the interpreter, and a last line that
calls `main`. It must start quickly, so it imports nothing but what is built into the interpreter;
json is loaded only to tell of an error. Both protocols with the agent are in `exchange`.
"""

from __future__ import annotations

import _socket
import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NoReturn

VERSIONS = ("0.3.1", "0.4.0", "1.0.0", "1.1.0")
TRY_AGAIN = 11
NOT_AVAILABLE = 50


def read_all(fd: int) -> bytes:
    """Everything there is to read."""
    chunks = []
    while chunk := posix.read(fd, 65536):
        chunks.append(chunk)
    return b"".join(chunks)


def exchange(
    path: str, patience: float, environment: Mapping[bytes, bytes], conf: bytes
) -> tuple[int, bytes]:
    """Ask the agent; returns the exit status and what to print, or raises OSError or ValueError.

    Request: NAME=VALUE of the CNI_ variables, each ended by NUL, one more NUL, the network
    configuration, end of stream; with the first byte comes the descriptor of the container's
    network namespace, if it can be opened. Answer: `STATUS LENGTH`, newline, LENGTH bytes.
    """
    namespace = -1
    try:
        name = environment.get(b"CNI_NETNS")
        if name:
            namespace = posix.open(name, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK)
    except OSError:
        pass
    request = b"".join(
        name + b"=" + value + b"\0"
        for name, value in environment.items()
        if name.startswith(b"CNI_")
    )
    request += b"\0" + conf
    agent = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    agent.settimeout(patience)
    agent.connect(path)
    rights = []
    if namespace >= 0:
        fds = namespace.to_bytes(4, sys.byteorder)
        rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, fds)]
    sent = agent.sendmsg([request], rights)
    if sent < len(request):
        agent.sendall(request[sent:])
    agent.shutdown(_socket.SHUT_WR)
    answer = b""
    while chunk := agent.recv(65536):
        answer += chunk
    head, newline, body = answer.partition(b"\n")
    if not newline:
        raise ValueError("it closed the connection")
    status, length = head.split(b" ")
    if len(body) != int(length):
        raise ValueError("the answer is cut short")
    return int(status), body


def without_agent(
    environment: Mapping[bytes, bytes], conf: bytes, reason: str
) -> tuple[int, bytes]:
    """What is printed, and the exit status, when the agent gave no answer."""
    import json  # noqa: PLC0415  too slow for those who need it not

    try:
        version = json.loads(conf).get("cniVersion") or VERSIONS[-1]
    except (ValueError, AttributeError, RecursionError):
        version = VERSIONS[-1]
    if environment.get(b"CNI_COMMAND") == b"VERSION":
        answer = {"cniVersion": version, "supportedVersions": VERSIONS}
        return 0, json.dumps(answer).encode() + b"\n"
    # Of STATUS the specification wants this code (section 2); it means the same to a runtime.
    code = NOT_AVAILABLE if environment.get(b"CNI_COMMAND") == b"STATUS" else TRY_AGAIN
    error = {"cniVersion": version, "code": code, "msg": reason}
    return 1, json.dumps(error).encode() + b"\n"


def main(path: str, patience: float) -> NoReturn:
    """Run the plugin and end the process. `patience` is in seconds."""
    environment = posix.environ
    conf = read_all(0)
    try:
        status, answer = exchange(path, patience, environment, conf)
    except TimeoutError:
        reason = f"the node agent did not answer within {patience:g} s"
        status, answer = without_agent(environment, conf, reason)
    except (FileNotFoundError, ConnectionRefusedError):
        reason = (
            f"the node agent is not running: nothing listens on {path};"
            " see the logs of ovsnet's agent on this node"
        )
        status, answer = without_agent(environment, conf, reason)
    except (OSError, ValueError) as error:
        reason = f"the node agent ended before it answered: {error}"
        status, answer = without_agent(environment, conf, reason)
    while answer:
        answer = answer[posix.write(1, answer) :]
    posix._exit(status)
