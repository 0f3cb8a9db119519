"""What travels to a worker with an attempt: all that it takes to make it, but no secret."""

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

#: The name of the task that makes attempts.
TASK = "pacifica.notifications.attempt"
#: Bytes that a notification may have, so that a hostile message does not fill the memory of a worker.
_LARGEST_BODY = 1 << 30
_LEVEL = 1


@attrs.frozen(kw_only=True)
class Message:
    """An attempt on its way.

    Args:
        job_id: The job's number.
        archive: The digest of the consumer that is to be run, as `archive.digest` has it.
        body: The notification, byte for byte as received.
        terms: What holds for it.
        traceparent: Names the trace that it belongs to; empty if there is none.
    """

    job_id: int
    archive: str
    body: bytes = attrs.field(repr=False)
    terms: Terms = attrs.field(factory=Terms)
    traceparent: str = ""

    def document(self) -> dict[str, Any]:
        """It as JSON has it."""
        return {
            "job_id": self.job_id,
            "archive": self.archive,
            # Whatever its bytes are, they arrive as they are.
            "body": base64.b64encode(zlib.compress(self.body, _LEVEL)).decode("ascii"),
            "terms": attrs.asdict(self.terms),
            "traceparent": self.traceparent,
        }

    @classmethod
    def read(cls, document: Any) -> Message:
        """Read one; nobody says who wrote it.

        Raises:
            ValueError: It is none.
        """
        try:
            said = document["terms"]
            terms = Terms(**{**said, "limits": JobLimits(**said["limits"])})
            message = cls(**{**document, "terms": terms, "body": _unpacked(document["body"])})
        except (TypeError, KeyError, AttributeError, binascii.Error, zlib.error) as error:
            raise ValueError(f"it is no attempt of this version: {type(error).__name__}") from error
        texts = (message.archive, message.traceparent, terms.consumer)
        if not all(isinstance(text, str) for text in texts) or not isinstance(message.job_id, int):
            raise ValueError("a text or a number in it is none")
        header_text(terms.consumer)
        counts = (terms.output_limit, *attrs.astuple(terms.limits))
        whole = all(count is None or type(count) is int for count in counts)
        if not whole or not all(map(_positive, (terms.timeout, *counts))):
            raise ValueError("a limit in it is none")
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
