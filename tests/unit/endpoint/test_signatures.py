"""Files of webhook secrets are read, or refused without being shown."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from pacifica_notifications_consumer.endpoint.webhooks import Signatures
from pacifica_notifications_consumer.errors import ConfigurationError

SECRET = base64.b64encode(bytes(32)).decode()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "cannot read the webhook secrets .*; let `webhook_secrets` name a file with one secret in each line"),
        (b"\n", "is empty; let `webhook_secrets` name a file"),
        (b"whsec_short\n", "line 1 of .*, the file of `webhook_secrets`, is not a webhook secret; write whsec_"),
        (f"{SECRET}\nwhsec_!\n".encode(), "line 2 of"),
        (f"\n{SECRET}\n\nwhsec_!\n".encode(), "line 4 of"),
        (b"\xff", "it is not ASCII"),
    ],
)
def test_bad_secrets(tmp_path: Path, content: bytes | None, expected: str) -> None:
    """A file of secrets that is none is an error that says which line, and shows nothing of it."""
    path = tmp_path / "secrets"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=expected) as caught:
        Signatures.from_file(str(path))
    assert SECRET not in str(caught.value)
