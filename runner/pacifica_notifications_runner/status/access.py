"""Access to the status page: by the token, and afterwards by the cookie that it was exchanged for."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie

import attrs


@attrs.frozen
class AccessControl:
    """Checks tokens and cookies, in a time that does not tell how much of them is right."""

    token: str = attrs.field(repr=False)
    #: Part of the cookie's name, since browsers send the cookies of all ports of a host to each of them.
    port: int
    #: Whether the page is served over HTTPS only.
    secure: bool = False

    @property
    def csrf(self) -> str:
        """The token that forms of this page carry, which no other site can know."""
        return self._derived("form")

    @property
    def cookie(self) -> str:
        """The value of ``Set-Cookie`` that gives a browser access; scripts cannot read the cookie."""
        secure = "; Secure" if self.secure else ""
        return f"{self._cookie_name}={self._derived('session')}; Path=/; HttpOnly; SameSite=Strict{secure}"

    @property
    def no_cookie(self) -> str:
        """The value of ``Set-Cookie`` that takes access from a browser."""
        return f"{self._cookie_name}=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict"

    def is_token(self, text: str) -> bool:
        """Whether a text is the token."""
        return hmac.compare_digest(text.encode(), self.token.encode())

    def is_bearer(self, headers: Mapping[str, str]) -> bool:
        """Whether a request shows the token itself, as programs do."""
        scheme, _, credentials = headers.get("Authorization", "").partition(" ")
        return scheme.lower() == "bearer" and self.is_token(credentials.strip())

    def is_known(self, headers: Mapping[str, str]) -> bool:
        """Whether a request comes from a browser with access."""
        try:
            cookies = SimpleCookie(headers.get("Cookie", ""))
        except CookieError:
            return False
        shown = cookies.get(self._cookie_name)
        return shown is not None and hmac.compare_digest(shown.value.encode(), self._derived("session").encode())

    def is_ours(self, headers: Mapping[str, str], form: Mapping[str, str]) -> bool:
        """Whether a form was sent from a page of this site."""
        if headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
            return False
        return hmac.compare_digest(form.get("csrf", "").encode(), self.csrf.encode())

    @property
    def _cookie_name(self) -> str:
        return f"pacifica-status-{self.port}"

    def _derived(self, purpose: str) -> str:
        """A value for a page or a cookie that does not disclose the token."""
        return hmac.new(self.token.encode(), purpose.encode(), hashlib.sha256).hexdigest()
