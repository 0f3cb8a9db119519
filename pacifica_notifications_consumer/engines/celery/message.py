"""The message that hands an attempt out to a worker; it does not contain secrets."""

from __future__ import annotations

import base64
import binascii
import json
import math
import zlib
from typing import Any

import attrs

from ...jobs.limits import JobLimits
from ...settings.converters import header_text
from ..engine import Terms

#: The name of the Celery task that runs attempts.
TASK = "pacifica.notifications.attempt"
#: The maximum size of a notification in bytes, so that a hostile message does not fill the memory of a worker.
_LARGEST_BODY = 1 << 30
_LEVEL = 1


@attrs.frozen(kw_only=True)
class Message:
    """An attempt to be run; ``archive`` is the digest of the consumer, and ``body`` the notification as received."""

    job_id: int
    archive: str
    body: bytes = attrs.field(repr=False)
    terms: Terms = attrs.field(factory=Terms)
    traceparent: str = ""

    def document(self) -> dict[str, Any]:
        """The message as a JSON object."""
        return {**attrs.asdict(self), "body": base64.b64encode(zlib.compress(self.body, _LEVEL)).decode("ascii")}

    @classmethod
    def read(cls, document: Any) -> Message:
        """Read a message, which any client of the broker may have written; raises `ValueError` if it is invalid."""
        try:
            said = document["terms"]
            terms = Terms(**{**said, "limits": JobLimits(**said["limits"])})
            message = cls(**{**document, "terms": terms, "body": _unpacked(document["body"])})
        except (TypeError, KeyError, AttributeError, binascii.Error, zlib.error) as error:
            raise ValueError(f"it is not a message of this version: {type(error).__name__}") from error
        texts = (message.archive, message.traceparent, terms.consumer)
        if not all(isinstance(text, str) for text in texts) or not isinstance(message.job_id, int):
            raise ValueError("a value in it has the wrong type")
        header_text(terms.consumer)
        counts = (terms.output_limit, *attrs.astuple(terms.limits))
        whole = all(count is None or type(count) is int for count in counts)
        if not whole or not all(map(_positive, (terms.timeout, *counts))):
            raise ValueError("a limit in it is not a positive number")
        return message


def _unpacked(text: str) -> bytes:
    unpacker = zlib.decompressobj()
    body = unpacker.decompress(base64.b64decode(text, validate=True), _LARGEST_BODY)
    if not unpacker.eof:
        raise ValueError("the notification in it is too large, or incomplete")
    json.loads(body)
    return body


def _positive(number: object) -> bool:
    return number is None or (isinstance(number, int | float) and math.isfinite(number) and number > 0)
