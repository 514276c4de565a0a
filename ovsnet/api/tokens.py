"""Whose a service account's token is (authentication.k8s.io/v1, TokenReview)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from ovsnet.api.asking import NoAnswerError, Server, ask

_NOT_FOUND = 404
_API_VERSION = "authentication.k8s.io/v1"
_REVIEWS = f"/apis/{_API_VERSION}/tokenreviews"


class Review(msgspec.Struct, frozen=True):
    """What the API server says of a token; `error` is its reason if it does not believe it."""

    authenticated: bool
    user: str = ""
    audiences: Sequence[str] = ()
    extra: Mapping[str, Sequence[str]] = {}
    error: str = ""


class _User(msgspec.Struct, frozen=True):
    username: str = ""
    extra: dict[str, list[str]] | None = None


class _Status(msgspec.Struct, frozen=True):
    authenticated: bool = False
    user: _User = _User()
    audiences: list[str] | None = None
    error: str = ""


class _Reviewed(msgspec.Struct, frozen=True):
    status: _Status = _Status()


class _PodMetadata(msgspec.Struct, frozen=True):
    uid: str = ""


class _PodSpec(msgspec.Struct, frozen=True):
    node: str = msgspec.field(default="", name="nodeName")


class _Pod(msgspec.Struct, frozen=True):
    metadata: _PodMetadata
    spec: _PodSpec = _PodSpec()


_decode_reviewed = msgspec.json.Decoder(_Reviewed).decode
_decode_pod = msgspec.json.Decoder(_Pod).decode


class TokenDesk:
    """Asks the API server about tokens. `silence` is how many seconds an answer may take."""

    def __init__(self, server: Server, silence: float = 5.0) -> None:
        self._server = server
        self._silence = silence

    def review(self, token: str, audience: str) -> Review:
        """What the API server says of a token that should be for this audience.

        Raises:
            NoAnswerError: it says nothing.
        """
        document = {
            "apiVersion": _API_VERSION,
            "kind": "TokenReview",
            "metadata": {},
            "spec": {"token": token, "audiences": [audience]},
        }
        body = msgspec.json.encode(document)
        _, answer = ask(lambda: self._server.post(_REVIEWS, body, self._silence))
        try:
            status = _decode_reviewed(answer).status
        except ValueError as error:
            raise NoAnswerError(f"the TokenReview cannot be read: {error}") from None
        user = status.user
        audiences = tuple(status.audiences or ())
        extra = user.extra or {}
        return Review(status.authenticated, user.username, audiences, extra, status.error)

    def node_of_pod(self, namespace: str, name: str, uid: str) -> str | None:
        """The node of the pod that has this name and uid; None if there is none, or no pod.

        Raises:
            NoAnswerError: that is not known.
        """
        path = f"/api/v1/namespaces/{namespace}/pods/{name}"
        status, answer = ask(lambda: self._server.get(path, (), self._silence), _NOT_FOUND)
        if status == _NOT_FOUND:
            return None
        try:
            pod = _decode_pod(answer)
        except ValueError as error:
            raise NoAnswerError(f"the pod cannot be read: {error}") from None
        return pod.spec.node or None if pod.metadata.uid == uid else None
