"""The way to the API server: credentials and transport of the `kubernetes` client.

That package reads kubeconfig files and in-cluster service accounts, renews tokens, and sets up a
urllib3 pool with TLS, client certificates and proxies. Its import takes a third of a second and
32 MB, so it waits until a connection is made. Of its models nothing is used.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, PoolManager

CHUNK = 1 << 16
CONNECT_SECONDS = 10.0
_UNAUTHORIZED = 401
_JSON = "application/json"
_MERGE_PATCH = "application/merge-patch+json"
_IN_CLUSTER = "KUBERNETES_SERVICE_HOST"
_KEEPALIVE = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 30_000),
)
"""A server that vanished without a word is noticed within half a minute, not after `stall`."""


class CredentialsError(Exception):
    """There is no usable kubeconfig or service account; the message says where it was sought."""


class UnreachableError(Exception):
    """No response, or it broke off."""


class StalledError(Exception):
    """Nothing came for the time that was given."""


class Response:
    """A response whose body is still to come."""

    def __init__(self, raw: BaseHTTPResponse) -> None:
        self._raw = raw
        self.status: int = raw.status

    @property
    def retry_after(self) -> float:
        """Seconds after which the server wants to be asked again; 0 if it does not say."""
        text = self._raw.headers.get("Retry-After", "")
        return float(text) if text.isascii() and text.isdecimal() else 0.0

    def chunks(self) -> Iterator[bytes]:
        """The body, as it comes.

        Raises:
            StalledError: nothing came for the time given with the request.
            UnreachableError: it broke off.
        """
        import urllib3.exceptions  # noqa: PLC0415

        try:
            yield from self._raw.stream(CHUNK)
        except urllib3.exceptions.ReadTimeoutError as error:
            raise StalledError(str(error)) from None
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise UnreachableError(f"the connection broke off: {error}") from None

    def cut(self) -> None:
        """Makes `chunks` end, also when another thread waits in it."""
        try:
            self._raw.shutdown()
        except (ValueError, RuntimeError, OSError):
            # It had ended by itself.
            return

    def close(self) -> None:
        """Gives the connection up, and back to the pool if the body was read to its end."""
        self._raw.close()
        self._raw.release_conn()


class Connection:
    """Sends requests to one API server. May be used by several threads at once.

    Credentials that rotate are followed: a service account's token by the `kubernetes` client,
    everything else (token and certificate files, exec plugins) by loading them afresh when the
    server refuses the old ones.
    """

    def __init__(self, load: Callable[[], Any], server: str = "") -> None:
        """`load` makes the client's configuration; `server` is a URL in place of the one in it."""
        self._load = load
        # Not put into the configuration: whenever the client reads a service account's token
        # afresh it sets the server that came with it again.
        self._server = server.rstrip("/")
        self._lock = threading.Lock()
        self._configuration, self._pool = self._open()

    def get(self, path: str, query: tuple[tuple[str, str], ...], silence: float) -> Response:
        """Sends a GET; `silence` is how many seconds may pass without a byte.

        Raises:
            UnreachableError: there was no response.
        """
        return self._authorized("GET", f"{path}?{urlencode(query)}", silence, b"", {})

    def put(self, path: str, body: bytes, silence: float) -> Response:
        """Replaces an object by its JSON; else as `get`.

        Raises:
            UnreachableError: there was no response. Whether it was done is not known.
        """
        return self._authorized("PUT", path, silence, body, {"Content-Type": _JSON})

    def post(self, path: str, body: bytes, silence: float) -> Response:
        """Creates an object from its JSON; else as `get`.

        Raises:
            UnreachableError: there was no response. Whether there is an object is not known.
        """
        return self._authorized("POST", path, silence, body, {"Content-Type": _JSON})

    def patch(self, path: str, body: bytes, silence: float) -> Response:
        """Merges JSON into an object (RFC 7386); else as `get`.

        Raises:
            UnreachableError: there was no response. Whether it was done is not known.
        """
        return self._authorized("PATCH", path, silence, body, {"Content-Type": _MERGE_PATCH})

    def _authorized(
        self, method: str, target: str, silence: float, body: bytes, headers: dict[str, str]
    ) -> Response:
        before = self._configuration
        response = self._send(method, target, silence, body, headers)
        if response.status == _UNAUTHORIZED:
            response.close()
            self._reload(before)
            response = self._send(method, target, silence, body, headers)
        return response

    def _send(
        self, method: str, target: str, silence: float, body: bytes, headers: dict[str, str]
    ) -> Response:
        import urllib3  # noqa: PLC0415

        with self._lock:
            configuration, pool = self._configuration, self._pool
            ours = {"Accept": _JSON, "User-Agent": "ovsnet"} | _auth(configuration)
        host = self._server or configuration.host.rstrip("/")
        try:
            raw = pool.request(
                method,
                f"{host}{target}",
                body=body or None,
                headers=ours | headers,
                timeout=urllib3.Timeout(connect=min(CONNECT_SECONDS, silence), read=silence),
                retries=False,
                redirect=False,
                preload_content=False,
            )
        except urllib3.exceptions.SSLError as error:
            self._reload(configuration)
            raise UnreachableError(f"TLS with {host} failed: {error}") from None
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise UnreachableError(f"no answer from {host}: {error}") from None
        return Response(raw)

    def _reload(self, refused: Any) -> None:
        """Loads the credentials afresh, unless another thread has done so by now."""
        with self._lock:
            if self._configuration is refused:
                try:
                    self._configuration, self._pool = self._open()
                except CredentialsError as error:
                    raise UnreachableError(str(error)) from None

    def _open(self) -> tuple[Any, PoolManager]:
        from kubernetes.client.rest import RESTClientObject  # noqa: PLC0415

        configuration = self._load()
        configuration.socket_options = list(_KEEPALIVE)
        try:
            return configuration, RESTClientObject(configuration).pool_manager
        except (OSError, ValueError) as error:
            raise CredentialsError(f"cannot set up TLS: {error}") from None

    def close(self) -> None:
        """Closes idle connections."""
        self._pool.clear()


def _auth(configuration: Any) -> dict[str, str]:
    """The headers by which we say who we are. Reading them renews a token that is due."""
    try:
        settings = configuration.auth_settings().values()
    except Exception as error:
        # Whatever the client's hooks raise when a token's file is being replaced.
        raise UnreachableError(f"the token cannot be renewed: {error}") from None
    return {s["key"]: s["value"].strip() for s in settings if s["in"] == "header" and s["value"]}


def connect(kubeconfig: Path | None = None, server: str = "") -> Connection:
    """A connection with the credentials of a kubeconfig file, or of the pod that we run in.

    `server` is the API server's URL in place of the one that the credentials come with.

    Raises:
        CredentialsError: there are none, or they cannot be read.
    """

    def load() -> Any:
        return _from_service_account() if kubeconfig is None else _from_kubeconfig(kubeconfig)

    return Connection(load, server)


def _from_kubeconfig(path: Path) -> Any:
    from kubernetes import config  # noqa: PLC0415
    from kubernetes.client.configuration import Configuration  # noqa: PLC0415

    if not path.is_file():
        raise CredentialsError(f"kubeconfig {path}: no such file")
    configuration = Configuration()
    try:
        config.load_kube_config(  # type: ignore[no-untyped-call]
            config_file=str(path), client_configuration=configuration, persist_config=False
        )
    except Exception as error:
        # Besides ConfigException, the client lets errors of YAML, base64 and attribute access
        # through; for us all of them say that this file is of no use.
        raise CredentialsError(f"kubeconfig {path}: {error}") from None
    return configuration


def _from_service_account() -> Any:
    from kubernetes import config  # noqa: PLC0415
    from kubernetes.client.configuration import Configuration  # noqa: PLC0415

    if not os.environ.get(_IN_CLUSTER):
        raise CredentialsError(
            f"no kubeconfig was given, and this is no pod with a service account ({_IN_CLUSTER} "
            "is not set)"
        )
    configuration = Configuration()
    try:
        config.load_incluster_config(configuration)  # type: ignore[no-untyped-call]
    except (config.ConfigException, OSError) as error:
        raise CredentialsError(f"service account of this pod: {error}") from None
    return configuration
