"""What the tests of faulty services share."""

from pathlib import Path

import pytest


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries and polls do not wait."""
    monkeypatch.setattr("pacifica_notifications_consumer.clients.retry.time.sleep", lambda _: None)


@pytest.fixture
def outgoing(tmp_path: Path) -> Path:
    """A directory with a file to upload."""
    (tmp_path / "uploads").mkdir()
    (tmp_path / "uploads" / "a.txt").write_text("alpha")
    return tmp_path
