"""What composers give is checked when they give it, and an error names the argument."""

import math
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pacifica_notifications_consumer import Filter, JobRunner, Sandbox, Services, VenvBuilder, subscribed, upload
from pacifica_notifications_consumer.endpoint import Endpoint, Rate
from pacifica_notifications_consumer.environment.cache import CacheLimits
from pacifica_notifications_consumer.errors import ConfigurationError, PacificaError
from pacifica_notifications_consumer.http.limits import ServerLimits
from pacifica_notifications_consumer.jobs import JobLimits
from pacifica_notifications_consumer.jobs.job import JobState, Verdict
from pacifica_notifications_consumer.jobs.retention import Keep
from tests.support.runner_tools import body, make_runner, run_one

WORKERS = "it must be a whole number from 1 to 1,000"
SECONDS = "it must be a number of seconds from 0 to 1,000,000,000"
TEXT = "it must be printable ASCII, and not empty"
PORT = "it must be a whole number from 0 to 65,535"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"workers": 0}, f"`workers` (0) is not usable; {WORKERS}"),
        ({"workers": 100_000}, WORKERS),
        ({"workers": 10**5000}, WORKERS),
        ({"workers": "2"}, f"`workers` ('2') is not usable; {WORKERS}"),
        ({"workers": 2.5}, WORKERS),
        ({"workers": True}, WORKERS),
        ({"workers": None}, WORKERS),
        ({"attempts": 0}, "`attempts` (0) is not usable; it must be a whole number from 1"),
        ({"max_depth": 0}, "`max_depth` (0) is not usable; it must be a whole number from 1"),
        ({"crash_limit": -1}, "`crash_limit` (-1) is not usable; it must be a whole number from 0"),
        ({"timeout": -1.0}, f"`timeout` (-1.0) is not usable; {SECONDS}"),
        ({"grace": -1}, f"`grace` (-1) is not usable; {SECONDS}"),
        ({"grace": math.nan}, f"`grace` (nan) is not usable; {SECONDS}"),
        ({"retry_delay": math.inf}, SECONDS),
        ({"output_limit": -1}, "`output_limit` (-1) is not usable; it must be a number of bytes"),
        ({"name": ""}, f"`name` ('') is not usable; {TEXT}"),
        ({"name": "a\nb"}, f"`name` ('a\\nb') is not usable; {TEXT}"),
        ({"name": None}, f"`name` (None) is not usable; {TEXT}"),
        ({"filter": "$["}, "cannot parse the JSONPath: line 1"),
        ({"filter": 123}, "cannot parse the JSONPath: line 1, column 1: '123'"),
        ({"venv": "/nowhere"}, "`venv` (/nowhere) has no bin/python; give it what a VenvBuilder returns"),
        ({"run_as": "nobody-of-that-name"}, "the user 'nobody-of-that-name' does not exist"),
        ({"run_as": 5}, "the user 5 does not exist on this machine; correct `run_as`"),
    ],
)
def test_runner(tmp_path: Path, arguments: dict[str, Any], problem: str) -> None:
    """A runner with a wrong argument is not made."""
    with pytest.raises(PacificaError) as caught:
        make_runner(tmp_path, "", **arguments)
    assert problem in str(caught.value)
    assert caught.value.advice


def test_missing_entry_point(tmp_path: Path) -> None:
    """A missing entry-point is reported before a job needs it."""
    with pytest.raises(ConfigurationError) as caught:
        JobRunner(tmp_path / "none.py", tmp_path / "state", name="n", services=Services())
    expected = f"`entry_point` ({tmp_path}/none.py) is not usable; it must be the path of an existing file"
    assert str(caught.value) == expected


def test_plain_values(tmp_path: Path) -> None:
    """A filter and an environment may be given as text, and one module to preload, too."""
    with VenvBuilder() as venv:
        runner = make_runner(
            tmp_path,
            "import sys; sys.exit(0 if sys.prefix.endswith('venv') else 1)",
            filter='$["data"][*]',
            venv=str(venv.path),
            preload="json",
        )
        with runner:
            assert runner.accept(body(1)).verdict is Verdict.UNMATCHED
            job = runner.wait(runner.accept(body(2, {"a": 1})), 60)
    assert job.state is JobState.SUCCEEDED


def test_threads_that_cannot_be_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A runner whose threads the system refuses says so, and leaves no thread behind."""
    before = threading.active_count()
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "worker 3":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    expected = "not all workers can be started: can't start new thread; set `workers` to fewer"
    with pytest.raises(ConfigurationError, match=expected), make_runner(tmp_path, "", workers=5):
        pytest.fail("it was started")
    assert threading.active_count() == before
    monkeypatch.undo()
    assert run_one(make_runner(tmp_path, "")).state is JobState.SUCCEEDED


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: VenvBuilder(timeout=-1), f"`timeout` (-1) is not usable; {SECONDS}"),
        (lambda: VenvBuilder(run_as="nobody-of-that-name"), "does not exist on this machine; correct `run_as`"),
        (lambda: VenvBuilder(directory=__file__), f"`directory` ({__file__}) is not a directory; correct its path"),
        (lambda: VenvBuilder(directory="/nowhere"), "`directory` (/nowhere) is not a directory"),
        (lambda: VenvBuilder(requirements="/no.txt"), "`requirements` (/no.txt) is not usable; it must be the path of"),
        (lambda: VenvBuilder(init_script="/no.sh"), "`init_script` (/no.sh) is not usable; it must be the path of an"),
        (lambda: VenvBuilder(installer="conda"), "`installer` ('conda') is unknown; set it to one of auto, uv, pip"),
        (lambda: VenvBuilder(python="/nowhere"), "/nowhere is not a usable Python: No such file or directory; correct"),
        (lambda: Services(producer_url="nope"), "`producer_url` ('nope') is not usable; it must look like http://HOST"),
        (lambda: Services(cartd_url=5), "`cartd_url` (5) is not usable; it must look like"),  # type: ignore[arg-type]
        (lambda: ServerLimits(threads=100_000), f"`threads` (100000) is not usable; {WORKERS}"),
        (lambda: JobLimits(memory=1 << 80), "is not usable; it must be a number of bytes"),
        (lambda: JobLimits(memory="8G"), "`memory` ('8G') is not usable; it must be"),  # type: ignore[arg-type]
        (lambda: Keep(age=-1), f"`age` (-1) is not usable; {SECONDS}"),
        (lambda: CacheLimits(size=-1), "`size` (-1) is not usable; it must be a number of bytes"),
        (lambda: Endpoint(accept=lambda *_: [], token=""), f"`token` is not usable; {TEXT}"),
        (lambda: Endpoint(accept=lambda *_: [], token="x", max_body=0), "`max_body` (0) is not usable; it must be at"),
        (lambda: Rate(0), "`limit` (0) is not usable; it must be a whole number from 1"),
        (lambda: Sandbox(cartd_port=70_000), f"`cartd_port` (70000) is not usable; {PORT}"),
        (lambda: Sandbox(staging_seconds=-1), f"`staging_seconds` (-1) is not usable; {SECONDS}"),
        (lambda: Sandbox(address=""), f"`address` ('') is not usable; {TEXT}"),
        (lambda: subscription(name=""), f"`name` ('') is not usable; {TEXT}"),
        (lambda: subscription(target_url="here"), "`target_url` ('here') is not usable; it must look like http://HOST"),
        (lambda: subscription(token="\n"), f"`token` is not usable; {TEXT}"),
        (lambda: subscription(auth="digest"), "`auth` ('digest') is not usable; it must be bearer or basic"),
        (lambda: subscription(watch_interval=-1), f"`watch_interval` (-1) is not usable; {SECONDS}"),
        (lambda: subscription(filter="$["), "cannot parse the JSONPath: line 1"),
        (lambda: upload(".", 5), "the arguments are not usable: 'int' object is not iterable; give `transaction` and"),  # type: ignore[arg-type]
        (lambda: upload(".", {}, ["x"]), "; give `transaction` and `key_values` as dicts"),  # type: ignore[arg-type]
        (lambda: Filter(123), "cannot parse the JSONPath: line 1, column 1: '123'"),  # type: ignore[arg-type]
    ],
)
def test_others(make: Callable[[], Any], problem: str) -> None:
    """The other classes and functions refuse wrong arguments when they are made or entered."""
    with pytest.raises(PacificaError) as caught, make():
        pytest.fail("it was accepted")
    assert problem in str(caught.value)


def subscription(**arguments: Any) -> Any:
    given = {"name": "n", "filter": None, "target_url": "http://127.0.0.1:1/receive?access_token=x", "token": "t"}
    return subscribed(Services(producer_url="http://127.0.0.1:1"), **(given | arguments))
