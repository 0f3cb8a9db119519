"""Access to the status page: with the token, or with the cookie of a session that a browser gets for it."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Mapping

import attrs

from pacifica_notifications_consumer.http.request import OWS

#: Seconds after which a browser has to sign in again.
_LIFETIME = 12 * 3600.0
#: Maximum number of sessions; the oldest one is ended for another one.
_MOST_SESSIONS = 100


@attrs.frozen
class Session:
    """A browser that has signed in, until a time on the monotonic clock; ``csrf`` is in all of its forms."""

    csrf: str = attrs.field(factory=secrets.token_urlsafe, repr=False)
    ends: float = attrs.field(factory=lambda: time.monotonic() + _LIFETIME)

    def has_made(self, form: Mapping[str, str]) -> bool:
        """Whether a form is one that this session got."""
        return hmac.compare_digest(form.get("csrf", "").encode(), self.csrf.encode())


@attrs.define
class AccessControl:
    """Checks tokens and cookies, and keeps the sessions; methods may be called from any thread."""

    token: str = attrs.field(repr=False)
    #: Whether the page is served over HTTPS.
    secure: bool = False
    #: Part of the cookie's name, since browsers send the cookies of all ports of a host to each port (RFC 6265, 8.5).
    port: int = 0
    # By the hashes of the cookies' values, so that the time of a search tells nothing about these; the oldest is first.
    _sessions: dict[bytes, Session] = attrs.field(factory=dict, init=False, repr=False)
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False, repr=False)

    def sign_in(self, headers: Mapping[str, str]) -> str:
        """Begin a session in place of the request's; returns the ``Set-Cookie`` that its browser gets."""
        self._end(headers)
        value = secrets.token_urlsafe()
        with self._lock:
            while len(self._sessions) >= _MOST_SESSIONS:
                del self._sessions[next(iter(self._sessions))]
            self._sessions[_hashed(value)] = Session()
        return f"{self._cookie_name}={value}{self._attributes}"

    def sign_out(self, headers: Mapping[str, str]) -> str:
        """End the session of a request; returns the ``Set-Cookie`` that removes the cookie from its browser."""
        self._end(headers)
        return f"{self._cookie_name}={self._attributes}; Max-Age=0"

    def session(self, headers: Mapping[str, str]) -> Session | None:
        """The session of a request; None if it has no cookie, or one of a session that has ended."""
        # Another server on the host may have set a cookie of the same name.
        found = [self._sessions.get(key) for key in self._keys(headers)]
        return next((each for each in found if each and time.monotonic() < each.ends), None)

    def is_token(self, text: str) -> bool:
        """Whether a text is the token; the time that this takes does not tell how much of it is right."""
        return hmac.compare_digest(text.encode(), self.token.encode())

    def is_bearer(self, headers: Mapping[str, str]) -> bool:
        """Whether a request carries the token itself, as programs send it."""
        scheme, _, credentials = headers.get("Authorization", "").partition(" ")
        return scheme.lower() == "bearer" and self.is_token(credentials.strip(OWS))

    def knows(self, headers: Mapping[str, str]) -> bool:
        """Whether a request has the token, as programs send it, or a session."""
        return self.is_bearer(headers) or self.session(headers) is not None

    def _end(self, headers: Mapping[str, str]) -> None:
        for key in self._keys(headers):
            with self._lock:
                self._sessions.pop(key, None)

    def _keys(self, headers: Mapping[str, str]) -> list[bytes]:
        pairs = [part.strip(OWS).partition("=") for part in headers.get("Cookie", "").split(";")]
        return [_hashed(value) for name, _, value in pairs if name == self._cookie_name]

    @property
    def _cookie_name(self) -> str:
        # Browsers accept a cookie with this prefix over HTTPS only, and from this host itself.
        return f"{'__Host-' if self.secure else ''}pacifica-status-{self.port}"

    @property
    def _attributes(self) -> str:
        return f"; Path=/; HttpOnly; SameSite=Strict{'; Secure' if self.secure else ''}"


def is_own_page(headers: Mapping[str, str]) -> bool:
    """Whether a request comes from a page of this site, as far as its browser tells."""
    if headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        return False
    # Browsers tell the first only to HTTPS and to loopback, this one to all (RFC 6454, 7).
    origin, host = headers.get("Origin"), headers.get("Host", "")
    return origin is None or origin.partition("://")[2].lower() == host.lower()


def _hashed(value: str) -> bytes:
    return hashlib.sha256(value.encode()).digest()
