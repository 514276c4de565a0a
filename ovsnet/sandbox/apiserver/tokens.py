"""Tokens of service accounts: issued (TokenRequest) and looked at (TokenReview).

They are JSON web tokens (RFC 7519) with the claims that real servers write. This server signs them
with a key of its own that nobody else can verify, and asks for none itself.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import timedelta
from typing import Any

import msgspec

from ovsnet.sandbox.apiserver import schema
from ovsnet.sandbox.apiserver.kinds import NODE, POD, SECRET, SERVICE_ACCOUNT, Kind, Object
from ovsnet.sandbox.apiserver.registry import Registry, timestamp
from ovsnet.sandbox.apiserver.status import ApiError, Cause, bad_request, conflict
from ovsnet.sandbox.apiserver.store import Key

ISSUER = "https://kubernetes.default.svc.cluster.local"
_HEADER = {"alg": "HS256", "typ": "JWT"}
_CLAIM = "kubernetes.io"
_EXTRA = "authentication.kubernetes.io/"
_DEFAULT_SECONDS = 3600
_LEAST_SECONDS = 600
_BOUND = {"Pod": POD, "Node": NODE, "Secret": SECRET}
_REQUEST = "io.k8s.api.authentication.v1.TokenRequest"
_REVIEW = "io.k8s.api.authentication.v1.TokenReview"


class _RefusedError(Exception):
    """A token is not to be believed."""


class Tokens:
    """Issues and reviews the tokens of one server."""

    def __init__(self, registry: Registry, key: bytes) -> None:
        self._registry = registry
        self._key = key

    def request(self, account: Key, given: Any) -> Object:
        """Answer a TokenRequest: itself, with a token in its status. Raises ApiError."""
        asked = _conform(_REQUEST, given)
        found = self._registry.get(SERVICE_ACCOUNT, account)
        spec = {"expirationSeconds": _DEFAULT_SECONDS} | (asked.get("spec") or {})
        if not spec.get("audiences"):
            spec["audiences"] = [ISSUER]
        if spec["expirationSeconds"] < _LEAST_SECONDS:
            raise _too_short(spec["expirationSeconds"])
        now = self._registry.sources.now()
        until = now + timedelta(seconds=spec["expirationSeconds"])
        namespace, name = account
        claims = {
            "aud": spec["audiences"],
            "exp": int(until.timestamp()),
            "iat": int(now.timestamp()),
            "iss": ISSUER,
            "jti": self._registry.sources.uid(),
            _CLAIM: {
                "namespace": namespace,
                **self._bound(account, spec.get("boundObjectRef") or {}),
                "serviceaccount": {"name": name, "uid": found.uid},
            },
            "nbf": int(now.timestamp()),
            "sub": f"system:serviceaccount:{namespace}:{name}",
        }
        return {
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {
                "name": name,
                "namespace": namespace,
                "creationTimestamp": timestamp(now),
            },
            "spec": spec,
            "status": {"token": self._sign(claims), "expirationTimestamp": timestamp(until)},
        }

    def review(self, given: Any) -> Object:
        """Answer a TokenReview: itself, with whose token it is in its status. Raises ApiError."""
        asked = _conform(_REVIEW, given)
        spec = asked.get("spec") or {}
        if not spec.get("token"):
            raise bad_request("token is required for TokenReview in authentication")
        try:
            status = self._verify(spec["token"], spec.get("audiences") or [ISSUER])
        except _RefusedError as error:
            status = {"user": {}, "error": str(error)}
        return {
            "kind": "TokenReview",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {},
            "spec": spec,
            "status": status,
        }

    def _bound(self, account: Key, reference: Object) -> Object:
        """The claims of the object that a token goes with: it is void when that is gone."""
        if not reference:
            return {}
        word, name = reference.get("kind", ""), reference.get("name", "")
        kind = _BOUND.get(word)
        if kind is None or reference.get("apiVersion", "v1") != "v1":
            raise bad_request(f"cannot bind token to object of type {word}")
        found = self._registry.get(kind, (account[0] if kind.namespaced else "", name))
        if kind is POD and found.decode()["spec"].get("serviceAccountName") != account[1]:
            raise bad_request(
                f'cannot bind token for serviceaccount "{account[1]}" to pod running with '
                "different serviceaccount name."
            )
        if reference.get("uid", found.uid) != found.uid:
            why = (
                f"the UID in the bound object reference ({reference['uid']}) does not match the "
                "UID in record. The object might have been deleted and then recreated"
            )
            raise conflict(kind, name, why)
        claims: Object = {word.lower(): {"name": name, "uid": found.uid}}
        host = found.decode()["spec"].get("nodeName") if kind is POD else None
        if host:
            node = self._registry.store[NODE].get(("", host))
            # A pod may be on a node that has not registered yet.
            claims["node"] = {"name": host} | ({"uid": node.uid} if node is not None else {})
        return claims

    def _sign(self, claims: Object) -> str:
        text = f"{_encoded(_HEADER)}.{_encoded(claims)}"
        return f"{text}.{_base64(self._signature(text))}"

    def _signature(self, text: str) -> bytes:
        return hmac.digest(self._key, text.encode(), hashlib.sha256)

    def _verify(self, token: str, audiences: list[str]) -> Object:
        """The status of a review of a token that is to be believed."""
        claims = self._claims(token)
        shared = [each for each in claims["aud"] if each in audiences]
        if not shared:
            raise _RefusedError(
                f"[invalid bearer token, token audiences {claims['aud']} is invalid for the "
                f"target audiences {audiences}]"
            )
        if claims["exp"] <= self._registry.sources.now().timestamp():
            raise _RefusedError("[invalid bearer token, service account token has expired]")
        whose = claims[_CLAIM]
        namespace, account = whose["namespace"], whose["serviceaccount"]
        self._require(SERVICE_ACCOUNT, namespace, account)
        extra = {f"{_EXTRA}credential-id": [f"JTI={claims['jti']}"]}
        for word, kind in _BOUND.items():
            reference = whose.get(word.lower())
            if reference is None:
                continue
            # The node of a pod's token is told and not looked up: the token goes with the pod.
            if word != "Node" or "pod" not in whose:
                self._require(kind, namespace, reference)
            if word != "Secret":
                for name, value in reference.items():
                    extra[f"{_EXTRA}{word.lower()}-{name}"] = [value]
        return {
            "authenticated": True,
            "user": {
                "username": claims["sub"],
                "uid": account["uid"],
                "groups": [
                    "system:serviceaccounts",
                    f"system:serviceaccounts:{namespace}",
                    "system:authenticated",
                ],
                "extra": extra,
            },
            "audiences": shared,
        }

    def _claims(self, token: str) -> Object:
        text, _, signature = token.rpartition(".")
        if not hmac.compare_digest(_base64(self._signature(text)), signature):
            raise _RefusedError("invalid bearer token")
        encoded = text.partition(".")[2]
        claims: Object = msgspec.json.decode(urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
        return claims

    def _require(self, kind: Kind, namespace: str, reference: Object) -> None:
        """The object must be the one that the token was issued for."""
        key = (namespace if kind.namespaced else "", reference["name"])
        found = self._registry.store[kind].get(key)
        if found is None or found.uid != reference["uid"]:
            raise _RefusedError(
                f"[invalid bearer token, the {kind.kind.lower()} {key[1]} of the token is gone]"
            )


def _too_short(seconds: int) -> ApiError:
    message = f"Invalid value: {seconds}: may not specify a duration less than 10 minutes"
    cause = Cause("FieldValueInvalid", message, "spec.expirationSeconds")
    text = f'TokenRequest.authentication.k8s.io "" is invalid: {cause.field}: {message}'
    return ApiError(422, "Invalid", text, causes=[cause])


def _conform(definition: str, given: Any) -> Object:
    if not isinstance(given, dict):
        raise bad_request(f"expected a {definition.rpartition('.')[2]} as a JSON object")
    try:
        conforming: Object = schema.conform(schema.of_definition(definition), given, [])
    except schema.WrongTypeError as error:
        raise bad_request(str(error)) from None
    return conforming


def _encoded(value: Object) -> str:
    return _base64(msgspec.json.encode(value))


def _base64(data: bytes) -> str:
    """As in RFC 7515: for URLs, without padding."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()
