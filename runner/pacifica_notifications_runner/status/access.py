"""Who may see the page: whoever shows the token, and afterwards the cookie that it was exchanged for."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie

import attrs


@attrs.frozen
class AccessControl:
    """Checks tokens and cookies, in a time that does not tell how much of them is right.

    Args:
        token: What lets in.
        port: The port of the page; browsers send the cookies of all ports of a host to each of them.
        secure: Whether the page is served over HTTPS only.
    """

    token: str = attrs.field(repr=False)
    port: int
    secure: bool = False

    @property
    def csrf(self) -> str:
        """What our own forms carry, and nobody else can know."""
        return self._derived("form")

    @property
    def cookie(self) -> str:
        """The header field that makes a browser remember that it was let in; no script can read it."""
        secure = "; Secure" if self.secure else ""
        return f"{self._cookie_name}={self._derived('session')}; Path=/; HttpOnly; SameSite=Strict{secure}"

    @property
    def no_cookie(self) -> str:
        """The header field that makes a browser forget it."""
        return f"{self._cookie_name}=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict"

    def is_token(self, text: str) -> bool:
        """Whether this is the token."""
        return hmac.compare_digest(text.encode(), self.token.encode())

    def is_bearer(self, headers: Mapping[str, str]) -> bool:
        """Whether a request shows the token itself, as programs do."""
        scheme, _, credentials = headers.get("Authorization", "").partition(" ")
        return scheme.lower() == "bearer" and self.is_token(credentials.strip())

    def is_known(self, headers: Mapping[str, str]) -> bool:
        """Whether a request comes from a browser that was let in."""
        try:
            cookies = SimpleCookie(headers.get("Cookie", ""))
        except CookieError:
            return False
        shown = cookies.get(self._cookie_name)
        return shown is not None and hmac.compare_digest(shown.value.encode(), self._derived("session").encode())

    def is_ours(self, headers: Mapping[str, str], form: Mapping[str, str]) -> bool:
        """Whether a form that was sent is one of ours."""
        if headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
            return False
        return hmac.compare_digest(form.get("csrf", "").encode(), self.csrf.encode())

    @property
    def _cookie_name(self) -> str:
        return f"pacifica-status-{self.port}"

    def _derived(self, purpose: str) -> str:
        """So that the token itself stands in no page and no cookie."""
        return hmac.new(self.token.encode(), purpose.encode(), hashlib.sha256).hexdigest()
