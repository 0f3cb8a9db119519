"""Access to the status page: with the token, or with the cookie that a browser gets for it."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie

import attrs

from pacifica_notifications_consumer.http.request import OWS


@attrs.frozen
class AccessControl:
    """Checks tokens and cookies, in a time that does not depend on how much of them is right."""

    token: str = attrs.field(repr=False)
    #: Part of the cookie's name, since a browser sends the cookies of all ports of a host to each port (RFC 6265, 8.5).
    port: int
    #: Whether the page is served over HTTPS.
    secure: bool = False

    @property
    def csrf(self) -> str:
        """The token in forms against cross-site requests."""
        return self._derived("form")

    @property
    def cookie(self) -> str:
        """The value of ``Set-Cookie`` that gives access to a browser, but not to its scripts."""
        secure = "; Secure" if self.secure else ""
        return f"{self._cookie_name}={self._derived('session')}; Path=/; HttpOnly; SameSite=Strict{secure}"

    @property
    def no_cookie(self) -> str:
        """The value of ``Set-Cookie`` that ends a browser's access."""
        return f"{self._cookie_name}=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict"

    def is_token(self, text: str) -> bool:
        """Whether a text is the token."""
        return hmac.compare_digest(text.encode(), self.token.encode())

    def is_bearer(self, headers: Mapping[str, str]) -> bool:
        """Whether a request carries the token itself, as programs send it."""
        scheme, _, credentials = headers.get("Authorization", "").partition(" ")
        return scheme.lower() == "bearer" and self.is_token(credentials.strip(OWS))

    def has_cookie(self, headers: Mapping[str, str]) -> bool:
        """Whether a request carries the cookie that gives access."""
        try:
            cookies = SimpleCookie(headers.get("Cookie", ""))
        except CookieError:
            return False
        cookie = cookies.get(self._cookie_name)
        return cookie is not None and hmac.compare_digest(cookie.value.encode(), self._derived("session").encode())

    def is_own_form(self, headers: Mapping[str, str], form: Mapping[str, str]) -> bool:
        """Whether a form was sent from a page of this site."""
        if headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
            return False
        return hmac.compare_digest(form.get("csrf", "").encode(), self.csrf.encode())

    @property
    def _cookie_name(self) -> str:
        return f"pacifica-status-{self.port}"

    def _derived(self, purpose: str) -> str:
        """A value for one purpose that does not disclose the token."""
        return hmac.new(self.token.encode(), purpose.encode(), hashlib.sha256).hexdigest()
