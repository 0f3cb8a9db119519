"""Progress is reported to a callback, the terminal, the runner, or the log."""

from __future__ import annotations

import logging
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from pacifica_notifications_consumer.streams.progress import (
    PROGRESS_VARIABLE,
    Progress,
    TransferMeter,
    describe_progress,
    parse_progress,
)

TRANSFER = """
import sys, time
from pacifica_notifications_consumer.streams.progress import TransferMeter
with TransferMeter("download", 3 << 20, 2, None) as meter:
    for _ in range(3):
        time.sleep(0.11)
        meter.advance(1 << 20)
    meter.advance(0, files=2)
print("done")
"""


def test_callback() -> None:
    """A callback gets the done and total bytes and files at the beginning, at intervals, and at the end."""
    told: list[tuple[int, ...]] = []
    with TransferMeter("download", 10, 2, lambda *numbers: told.append(numbers)) as meter:
        for _ in range(1000):
            meter.advance(1)
            meter.advance(-1)
        meter.advance(10, files=2)
    assert (told[0], told[-1]) == ((0, 10, 0, 2), (10, 10, 2, 2))
    assert len(told) < 100


def test_terminal() -> None:
    """A terminal shows the progress on one line, which is erased at the end."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", TRANSFER], stderr=theirs, stdout=subprocess.PIPE, text=True)
    os.close(theirs)
    shown = b""
    try:
        while data := os.read(ours, 4096):
            shown += data
    except OSError:  # EIO on Linux: the other side has been closed
        pass
    os.close(ours)
    assert process.communicate()[0] == "done\n"
    assert b"download 66 % of 3.0 MiB, 0 of 2 files" in shown
    assert shown.endswith(b"\r\x1b[K")


def test_pipe() -> None:
    """Nothing is written to a pipe."""
    finished = subprocess.run([sys.executable, "-c", TRANSFER], capture_output=True, text=True, check=True)
    assert (finished.stdout, finished.stderr) == ("done\n", "")


def test_log(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """The progress is logged at intervals."""
    monkeypatch.setattr("pacifica_notifications_consumer.streams.progress._LOG_SECONDS", 0.0)
    monkeypatch.delenv(PROGRESS_VARIABLE, raising=False)
    with caplog.at_level(logging.INFO), TransferMeter("upload", 2048, 1, None) as meter:
        meter.advance(1024)
    assert "upload 50 % of 2.0 KiB, 0 of 1 files" in caplog.text


def test_file_for_the_runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under a runner the sums of all downloads and uploads of the process are written to the file."""
    monkeypatch.setenv(PROGRESS_VARIABLE, str(tmp_path / "progress.json"))
    monkeypatch.setattr("pacifica_notifications_consumer.streams.progress._display._ended", {})
    with TransferMeter("download", 10, 1, None) as first, TransferMeter("download", 20, 2, None) as second:
        first.advance(10, files=1)
        second.advance(5)
    with TransferMeter("upload", 4, 1, None) as third:
        third.advance(4, files=1)
    noted = parse_progress((tmp_path / "progress.json").read_text())
    assert noted == {
        "download": Progress(bytes_done=15, bytes_total=30, files_done=1, files_total=3),
        "upload": Progress(bytes_done=4, bytes_total=4, files_done=1, files_total=1),
    }
    assert describe_progress(noted) == "download 50 % of 30 B, 1 of 3 files; upload 100 % of 4 B, 1 of 1 files"
    assert [path.name for path in tmp_path.iterdir()] == ["progress.json"]


def test_file_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """A transfer does not fail if its progress cannot be written."""
    monkeypatch.setenv(PROGRESS_VARIABLE, "/nowhere/progress.json")
    with TransferMeter("download", 1, 1, None) as meter:
        meter.advance(1, files=1)


@pytest.mark.parametrize(
    "noted",
    [
        "",
        "[]",
        "{",
        '{"download": 5}',
        '{"download": {"bytes": 1}}',
        '{"download": {"bytes_done": "x"}}',
        '{"download": {"bytes_done": -1}}',
        '{"download": {"bytes_done": NaN}}',
        '{"download": {"bytes_total": %s}}' % ("9" * 4000),
        '{"\\ud800": {"bytes_done": 1}}',
        "[" * 4096,
        '{"a":' * 800,
    ],
)
def test_malformed_file(noted: str) -> None:
    """A malformed file, which the entry-point may have written, counts as empty."""
    assert parse_progress(noted) == {}
