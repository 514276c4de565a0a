"""Keeps what the controller shows and trusts: the authorities, as the API has them, and its own
certificate.

One thread looks from time to time. Whoever finds no authorities makes them; of several controllers
that do so at once the API server takes the first one's, and the others read those. A Secret that
is deleted is written again from memory. What goes out of use does so for new connections only.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Final, Protocol

import msgspec

from ovsnet import logs, names
from ovsnet.api import Kept, NoAnswerError
from ovsnet.controller.trust.authority import (
    Authorities,
    AuthorityError,
    Terms,
    advanced,
    fresh,
    read_secret,
    secret_data,
    wall_time,
)
from ovsnet.controller.trust.certificates import controller_credentials
from ovsnet.controller.trust.contexts import server_context

_log = logs.get("trust")

_PAUSE: Final = 30.0
_PAUSE_AFTER_FAILURE: Final = 1.0
_OWN_LIFE: Final = timedelta(days=7)
_ATTEMPTS: Final = 5


class Place(Protocol):
    """Where something is kept in the API; `ovsnet.api.Keep` is one. Raises NoAnswerError."""

    def read(self) -> Kept | None:
        """What is there."""

    def write(self, data: Mapping[str, str], before: Kept | None) -> bool:
        """Replace what was read; False if it is not what is there any more."""


class Held(msgspec.Struct, frozen=True):
    """What is in force: the authorities, and TLS for switches and for agents.

    Switches must show a certificate; agents need not, to get one.
    """

    authorities: Authorities
    until: datetime
    switches: ssl.SSLContext
    agents: ssl.SSLContext


class Keyring:
    """The thread that keeps it, from `start` to `stop`. `clock` gives seconds since 1970."""

    def __init__(
        self,
        secret: Place,
        published: Place,
        *,
        terms: Terms | None = None,
        clock: Callable[[], float] = time.time,
        pause: float = _PAUSE,
    ) -> None:
        """`published` is the ConfigMap that everybody may read; `pause` is in seconds."""
        self._secret = secret
        self._published = published
        self._terms = terms or Terms()
        self._clock = clock
        self._pause = pause
        self._held: Held | None = None
        self._reason = ""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keyring", daemon=True)

    @property
    def held(self) -> Held | None:
        """What is in force; None until the API has told, or taken, the authorities."""
        return self._held

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End soon; what is in force stays so."""
        self._stopping.set()

    def _run(self) -> None:
        pause = 0.0
        while not self._stopping.wait(pause):
            try:
                self.round()
            except (NoAnswerError, AuthorityError) as error:
                self._failed(str(error))
                pause = _PAUSE_AFTER_FAILURE
            except Exception:
                # Without this thread certificates would run out, weeks later.
                _log.exception("keeping the certificate authorities failed")
                pause = self._pause
            else:
                self._reason = ""
                pause = self._pause

    def round(self) -> None:
        """Look at the authorities, do what is due, and put in force what follows.

        Raises:
            NoAnswerError: the API does not tell, or take, them.
            AuthorityError: what is there are none. What was in force before stays so.
        """
        now = wall_time(self._clock())
        held = self._held
        if held is not None and now >= held.until - _OWN_LIFE / 3:
            # For this the API is not needed, and may be away for long.
            held = self._held = _held(held.authorities, now)
        authorities = self._agreed(now)
        if held is None or not _same(held.authorities, authorities):
            self._held = _held(authorities, now)
            _log.info(
                "certificate authorities in force",
                signing=authorities.signing.certificate.subject.rfc4514_string(),
                trusted=len(authorities.trusted),
            )
        # Agents come as soon as they read it, and should be served then.
        self._publish(authorities.bundle)

    def _agreed(self, now: datetime) -> Authorities:
        """The authorities that the Secret has once everything is done that is due."""
        for _ in range(_ATTEMPTS):
            kept = self._secret.read()
            if kept is not None:
                found = read_secret(kept.data)
                wanted = advanced(found, now, self._terms)
                if wanted is found:
                    return found
            else:
                wanted = self._remembered(now)
            if self._secret.write(secret_data(wanted), kept):
                return wanted
        raise NoAnswerError("the authorities' Secret changes whenever it is looked at")

    def _remembered(self, now: datetime) -> Authorities:
        """What the Secret had, if it was there before; otherwise a new authority."""
        if self._held is not None:
            _log.warning("the authorities' Secret is gone; it is written again")
            return self._held.authorities
        return Authorities(fresh(now, self._terms))

    def _publish(self, bundle: str) -> None:
        """Have the ConfigMap say whom to trust. If somebody else wrote it, the next round looks."""
        kept = self._published.read()
        data = {} if kept is None else kept.data
        if data.get(names.AUTHORITY_KEY) == bundle:
            return
        if self._published.write({**data, names.AUTHORITY_KEY: bundle}, kept):
            _log.info("certificate authorities published")

    def _failed(self, reason: str) -> None:
        if reason != self._reason:
            _log.warning("certificate authorities cannot be kept", reason=reason)
        self._reason = reason


def _same(one: Authorities, other: Authorities) -> bool:
    """Keys do not compare by value, their text does."""
    return secret_data(one) == secret_data(other)


def _held(authorities: Authorities, now: datetime) -> Held:
    own = controller_credentials(authorities.signing, now, _OWN_LIFE)
    bundle = authorities.bundle
    return Held(
        authorities,
        now + _OWN_LIFE,
        server_context(own, bundle, required=True),
        server_context(own, bundle, required=False),
    )
