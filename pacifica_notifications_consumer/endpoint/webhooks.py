"""Webhooks: signatures, rates, handshakes, and a token in the address.

Signatures are those of Standard Webhooks (https://www.standardwebhooks.com). All else is defined by CloudEvents' "HTTP
1.1 Web Hooks for Event Delivery", which the comments call Webhooks.
"""

from __future__ import annotations

import base64
import binascii
import collections
import hashlib
import hmac
import math
import os
import threading
import time
import urllib.parse
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs

from ..errors import ConfigurationError
from ..http.request import OWS
from ..settings.converters import check, count

#: How secrets and signatures of Standard Webhooks begin.
_SECRET, _SIGNATURE = "whsec_", "v1,"
_SHORTEST_SECRET, _LONGEST_SECRET = 24, 64
#: Seconds by which a timestamp may differ from the time here, so that old requests cannot be sent again.
_TOLERANCE = 300.0
#: Seconds over which a rate is counted.
_MINUTE = 60.0
_ADVICE = "let `webhook_secrets` name a file with one secret in each line"
_HEADERS = ("webhook-id", "webhook-timestamp", "webhook-signature")


@attrs.frozen
class Signatures:
    """Signatures of Standard Webhooks, with HMAC-SHA256.

    Args:
        secrets: The secrets that senders may sign with; more than one while they are being changed.
    """

    secrets: tuple[bytes, ...] = attrs.field(default=(), repr=False)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Signatures:
        """Read secrets from a file, one in each line.

        Args:
            path: The file; each secret begins with ``whsec_`` and is in base64.

        Raises:
            ConfigurationError: The file cannot be read, or a line of it is not a secret.
        """
        path = Path(path)
        try:
            lines = [line.strip() for line in path.read_text(encoding="ascii").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not ASCII"
            raise ConfigurationError(f"cannot read the webhook secrets {path}: {reason}", _ADVICE) from None
        if not any(lines):
            raise ConfigurationError(f"the file of webhook secrets {path} is empty", _ADVICE)
        return cls(tuple(_secret(path, number, line) for number, line in enumerate(lines, 1) if line))

    def expected(self, headers: Mapping[str, str]) -> bool:
        """Whether a request has a signature to verify."""
        return bool(self.secrets) and all(name in headers for name in _HEADERS)

    def why_unread(self, headers: Mapping[str, str], now: float) -> str:
        """Why a request is refused by its head, at a time in seconds since 1970; empty if its body has to be read."""
        timestamp = headers["webhook-timestamp"]
        if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) < 20):
            return "the webhook-timestamp is not a number of seconds"
        if abs(now - int(timestamp)) > _TOLERANCE:
            return f"the webhook-timestamp differs by more than {_TOLERANCE:g} seconds from the time here"
        return ""

    def why_not(self, headers: Mapping[str, str], body: bytes) -> str:
        """Why the signature of a request is refused; empty if it is right."""
        message_id, timestamp, given = (headers[name] for name in _HEADERS)
        signed = f"{message_id}.{timestamp}.".encode("latin-1", "replace") + body
        good = [hmac.digest(secret, signed, hashlib.sha256) for secret in self.secrets]
        # All are compared, so that the time that this takes does not tell which one matches.
        matches = [hmac.compare_digest(each, known) for each in _signatures(given) for known in good]
        return "" if any(matches) else "the webhook-signature is not of any of the secrets"


def _secret(path: Path, number: int, text: str) -> bytes:
    try:
        secret = base64.b64decode(text.removeprefix(_SECRET), validate=True)
    except binascii.Error:
        secret = b""
    if not _SHORTEST_SECRET <= len(secret) <= _LONGEST_SECRET:
        # The message does not show the line: most of it may be a secret.
        raise ConfigurationError(
            f"line {number} of {path}, the file of `webhook_secrets`, is not a webhook secret",
            f"write {_SECRET} and {_SHORTEST_SECRET} to {_LONGEST_SECRET} bytes in base64",
        )
    return secret


def _signatures(text: str) -> list[bytes]:
    found = []
    for word in text.split(" ")[:20]:
        if word.startswith(_SIGNATURE):
            try:
                found.append(base64.b64decode(word.removeprefix(_SIGNATURE), validate=True))
            except ValueError:  # not base64, or not even ASCII
                continue
    return found


class Rate:
    """Limits the requests of each minute (Webhooks, 4.2.2).

    Args:
        limit: How many requests are taken in a minute; None for any number.
    """

    def __init__(self, limit: int | None) -> None:
        check(count, none=True, limit=limit)
        self.limit = limit
        self._taken: collections.deque[float] = collections.deque()
        self._lock = threading.Lock()

    def take(self) -> int:
        """Count a request; returns 0 if it is taken, else the seconds after which it may be sent again."""
        with self._lock:
            seconds = self._wait()
            if not seconds and self.limit is not None:
                self._taken.append(time.monotonic())
            return seconds

    def wait(self) -> int:
        """The seconds after which the next request is taken; 0 for at once."""
        with self._lock:
            return self._wait()

    def _wait(self) -> int:
        if self.limit is None:
            return 0
        now = time.monotonic()
        while self._taken and now - self._taken[0] >= _MINUTE:
            self._taken.popleft()
        return 0 if len(self._taken) < self.limit else max(1, math.ceil(_MINUTE - (now - self._taken[0])))


def handshake(headers: Mapping[str, str], origins: Sequence[str], rate: int | None) -> dict[str, str]:
    """Header fields that answer a sender that asks for permission to send (Webhooks, 4.1); none without permission."""
    origin = headers.get("WebHook-Request-Origin", "").strip(OWS)
    if not origin or not ({origin.lower(), "*"} & {each.lower() for each in origins}):
        return {}
    wanted = headers.get("WebHook-Request-Rate", "").strip(OWS)
    granted = "*" if rate is None else str(rate)
    if rate is not None and wanted.isascii() and wanted.isdigit() and 0 < len(wanted) < 10 and int(wanted) > 0:
        granted = str(min(rate, int(wanted)))
    return {"WebHook-Allowed-Origin": "*" if "*" in origins else origin, "WebHook-Allowed-Rate": granted}


def token_in(query: str) -> str:
    """The ``access_token`` in the query of an address; empty if there is none, or more than one (RFC 6750, 2.3)."""
    try:
        given = urllib.parse.parse_qs(query, max_num_fields=20).get("access_token", [])
    except ValueError:
        return ""
    return given[0] if len(given) == 1 else ""
