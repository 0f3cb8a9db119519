"""Refused requests are logged, but cannot fill the log."""

import pytest

from pacifica_notifications_consumer.endpoint.strangers import Strangers


def test_one_line_a_minute(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many that are refused at the same time make one line, and the next one says how many there were."""
    now = [1000.0]
    monkeypatch.setattr("pacifica_notifications_consumer.endpoint.strangers.time.monotonic", lambda: now[0])
    strangers = Strangers("the endpoint")
    for _ in range(50):
        strangers.note("192.0.2.1")
    now[0] += 59.0
    strangers.note("192.0.2.1")
    now[0] += 1.0
    strangers.note("192.0.2.2")
    assert [record.getMessage() for record in caplog.records] == [
        "refused 192.0.2.1 to the endpoint: the credentials are missing or wrong",
        "refused 192.0.2.2 to the endpoint: the credentials are missing or wrong (50 more since the last line)",
    ]
