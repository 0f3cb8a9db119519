"""Observing a consumer: metrics, the context of log lines, and traces."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pacifica_notifications_consumer import JobRunner
from pacifica_notifications_consumer.clients.base import make_session
from pacifica_notifications_consumer.cloudevents.trace import child_of, read_traceparent, trace_id
from pacifica_notifications_consumer.queue.histograms import Histogram
from pacifica_notifications_consumer.queue.prometheus import write_metrics
from pacifica_notifications_consumer.settings.services import Services
from pacifica_notifications_consumer.system.log_context import concerning, log_facts
from pacifica_notifications_runner.process import logs
from tests.support.machine.waiting import DEADLINE, wait_until
from tests.support.runner_tools import WAYS, accept, body, make_runner

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
#: A line of the format, without exemplars and escapes.
_SAMPLE = re.compile(r'([a-z_]+)(\{[a-z]+="[^"\\\n]*"(?:,[a-z]+="[^"\\\n]*")*\})? (-?[0-9.]+(?:e[+-]\d+)?)')


def samples(text: str) -> dict[str, float]:
    """Parse a text in Prometheus' format; each sample must belong to a family that was declared before."""
    found: dict[str, float] = {}
    families: set[str] = set()
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            families.add(line.split()[2])
        elif not line.startswith("# HELP "):
            sample = _SAMPLE.fullmatch(line)
            assert sample, line
            assert re.sub(r"_(bucket|sum|count)$", "", sample[1]) in families or sample[1] in families, line
            assert line.rpartition(" ")[0] not in found
            found[sample[1] + (sample[2] or "")] = float(sample[3])
    return found


def test_metrics(tmp_path: Path) -> None:
    """The metrics contain counts, times, the queue's depth and age, and the version in Prometheus' format."""
    fails_for_2 = "import sys; sys.exit('e.2' in open(sys.argv[1] + '/notification.json').read())"
    with make_runner(tmp_path, fails_for_2) as runner:
        for number in (1, 2, 1):
            runner.accept(body(number))
        runner.wait(1, DEADLINE)
        runner.wait(2, DEADLINE)
        found = samples(write_metrics(runner))
    prefix = "pacifica_consumer_"
    assert found[f'{prefix}notifications_total{{verdict="matched"}}'] == 2
    assert found[f'{prefix}notifications_total{{verdict="duplicate"}}'] == 1
    assert found[f'{prefix}jobs{{state="succeeded"}}'] == found[f'{prefix}jobs{{state="dead"}}'] == 1
    assert found[f"{prefix}queue_depth"] == found[f"{prefix}queue_age_seconds"] == 0
    assert found[f"{prefix}commit_seconds_count"] == found[f'{prefix}commit_seconds_bucket{{le="+Inf"}}'] == 3
    assert found[f"{prefix}job_seconds_count"] == found[f"{prefix}job_wait_seconds_count"] == 2
    assert 0 < found[f"{prefix}job_seconds_sum"] < 2 * DEADLINE
    assert [name for name in found if name.startswith(f"{prefix}build_info")]


def test_age_of_the_queue(tmp_path: Path) -> None:
    """A waiting job adds to the depth and the age of the queue."""
    age = "pacifica_consumer_queue_age_seconds"
    with make_runner(tmp_path, "import time; time.sleep(60)", workers=1) as runner:
        accept(runner, 1)
        accept(runner, 2)
        wait_until(lambda: samples(write_metrics(runner))["pacifica_consumer_queue_depth"] == 1)
        first = samples(write_metrics(runner))[age]
        wait_until(lambda: samples(write_metrics(runner))[age] > first)


def test_histogram() -> None:
    """Each bucket counts values up to its bound; values above all bounds are only in the total count."""
    histogram = Histogram((1.0, 2.0))
    for seconds in (0.5, 1.0, 1.5, 3.0):
        histogram.observe(seconds)
    read = histogram.read()
    assert (read.counts, read.count, read.total) == ((2, 3), 4, 6.0)


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_lines_say_what_they_are_about(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In JSON each line on a job carries the job, the notification, the event and the trace; others carry none."""
    logs.set_up_logging("json", verbose=False)
    with make_runner(tmp_path, "import sys; sys.exit(3)") as runner:
        (receipt,) = runner.accept_all([body(1)], [TRACEPARENT])
        runner.wait(receipt, DEADLINE)
        logging.getLogger("pacifica_notifications_runner").warning("about nothing")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    about = [line for line in lines if "job 1" in line["message"]]
    assert [line["level"] for line in about] == ["info", "info", "warning", "error"]
    facts = {"job": 1, "notification": 1, "event": "e.1", "trace": TRACE}
    assert [{name: line.get(name) for name in facts} for line in about] == [facts] * 4
    (other,) = [line for line in lines if line["message"] == "about nothing"]
    assert not facts.keys() & other.keys()


def test_facts_are_nested_and_forgotten() -> None:
    """The facts of a context add to those of outer contexts, and end with it; empty facts are left out."""
    with concerning(job=1, trace=""):
        with concerning(event="e"):
            assert log_facts() == {"job": 1, "event": "e"}
        assert log_facts() == {"job": 1}
    assert log_facts() == {}


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("variables", "coloured"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False), ({"NO_COLOR": ""}, True)],
)
def test_colours(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], coloured: bool) -> None:
    """A terminal shows warnings in colour, except with NO_COLOR."""
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    logs.set_up_logging("text", verbose=False)
    logging.getLogger("pacifica_notifications_runner").warning("careful")
    assert "careful" in terminal.getvalue()
    assert ("\033[" in terminal.getvalue()) is coloured


def test_a_pipe_gets_no_colours(capsys: pytest.CaptureFixture[str]) -> None:
    """A stream that is not a terminal gets plain text."""
    logs.set_up_logging("text", verbose=False)
    logging.getLogger("pacifica_notifications_runner").error("bad")
    written = capsys.readouterr().err
    assert written.endswith(" bad\n")
    assert "\033[" not in written


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        (TRACEPARENT, TRACEPARENT),
        (f" {TRACEPARENT} ", TRACEPARENT),
        (TRACEPARENT.replace("00-", "cc-", 1) + "-more", TRACEPARENT),
        (TRACEPARENT + "-more", ""),
        (TRACEPARENT.replace("00-", "ff-", 1), ""),
        (TRACEPARENT.upper(), ""),
        (TRACEPARENT.replace(TRACE, "0" * 32), ""),
        (TRACEPARENT.replace("00f067aa0ba902b7", "0" * 16), ""),
        ("", ""),
        (None, ""),
        (7, ""),
        ("x" * 1000, ""),
    ],
)
def test_traceparents(given: object, taken: str) -> None:
    """An invalid traceparent is ignored, and of a later version the known part is used."""
    assert read_traceparent(given) == taken


def test_children_are_of_the_same_trace() -> None:
    """A child span has a new id in the trace of its parent."""
    child = child_of(TRACEPARENT)
    assert (trace_id(child), child != TRACEPARENT, read_traceparent(child)) == (TRACE, True, child)
    assert child_of("") == trace_id("") == ""


def traced(runner: JobRunner, notification: bytes, header: str = "") -> str:
    """The TRACEPARENT variable of a job's entry-point."""
    with runner:
        (receipt,) = runner.accept_all([notification], [header])
        runner.wait(receipt, DEADLINE)
        return runner.directory(receipt.job_id or 0).output.read_text().strip()


@pytest.mark.sampled
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("changes", "header", "trace"),
    [
        ({}, TRACEPARENT, TRACE),
        ({"traceparent": TRACEPARENT}, "", TRACE),
        ({"extensions": {"traceparent": TRACEPARENT}}, f"00-{'1' * 32}-{'2' * 16}-00", TRACE),
        ({"traceparent": "nonsense"}, "nonsense", ""),
        ({}, "", ""),
    ],
)
def test_traces_reach_the_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str, changes: dict[str, object], header: str, trace: str
) -> None:
    """A job's trace is that of its notification, else of the request, in a new child span; never the runner's."""
    monkeypatch.setenv("TRACEPARENT", f"00-{'a' * 32}-{'b' * 16}-01")
    source = "import os; print(os.environ.get('TRACEPARENT', ''))"
    notification = json.dumps({"source": "s", "eventID": "e.1", "data": [], **changes}).encode()
    seen = traced(make_runner(tmp_path, source, way=way), notification, header)
    assert trace_id(seen) == trace
    assert seen != TRACEPARENT


def test_traces_reach_pacifica(monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry-point's requests to Pacifica carry its traceparent, if it has one."""
    monkeypatch.setenv("TRACEPARENT", TRACEPARENT)
    assert make_session(Services()).headers["traceparent"] == TRACEPARENT
    monkeypatch.setenv("TRACEPARENT", "nonsense")
    assert "traceparent" not in make_session(Services()).headers
    del os.environ["TRACEPARENT"]
