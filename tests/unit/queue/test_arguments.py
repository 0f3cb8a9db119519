"""What composers give is checked when they give it, and an error names the argument."""

import math
import sysconfig
import threading
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pacifica_notifications_consumer import Filter, JobRunner, Sandbox, Services, VenvBuilder, subscribed, upload
from pacifica_notifications_consumer.endpoint import Endpoint, Rate
from pacifica_notifications_consumer.environment.cache import CacheLimits
from pacifica_notifications_consumer.errors import ConfigurationError, PacificaError, StateError
from pacifica_notifications_consumer.http.limits import ServerLimits
from pacifica_notifications_consumer.jobs import JobLimits
from pacifica_notifications_consumer.jobs.job import JobState, Verdict
from pacifica_notifications_consumer.jobs.retention import Keep
from pacifica_notifications_consumer.queue import JobBook
from tests.support.machine.waiting import DEADLINE
from tests.support.paths import ROOT
from tests.support.runner_tools import body, make_runner, run_one

WORKERS = "it must be a whole number from 1 to 1,000"
SECONDS = "it must be a number of seconds from 0 to 1,000,000,000"
TEXT = "it must be printable ASCII, and not empty"
PORT = "it must be a whole number from 0 to 65,535"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"workers": 0}, f"`workers` cannot be 0; {WORKERS}"),
        ({"workers": 100_000}, WORKERS),
        ({"workers": 10**5000}, WORKERS),
        ({"workers": "2"}, "`workers` cannot be '2'; give the value, not its text"),
        ({"workers": 2.5}, WORKERS),
        ({"workers": True}, WORKERS),
        ({"workers": None}, WORKERS),
        ({"attempts": 0}, "`attempts` cannot be 0; it must be a whole number from 1"),
        ({"max_depth": 0}, "`max_depth` cannot be 0; it must be a whole number from 1"),
        ({"deferrals": -1}, "`deferrals` cannot be -1; it must be a whole number from 0"),
        ({"crash_limit": -1}, "`crash_limit` cannot be -1; it must be a whole number from 0"),
        ({"services": 3}, "`services` cannot be 3; it must be a Services"),
        ({"limits": 3}, "`limits` cannot be 3; it must be a JobLimits"),
        ({"keep": 3}, "`keep` cannot be 3; it must be a Keep"),
        ({"output_limit": "500M"}, "`output_limit` cannot be '500M'; give the value, not its text"),
        ({"timeout": 0}, "`timeout` cannot be 0; it must be more than 0; None stands for no limit"),
        ({"grace": None}, f"`grace` cannot be None; {SECONDS}"),
        ({"retry_delay": None}, f"`retry_delay` cannot be None; {SECONDS}"),
        ({"timeout": -1.0}, f"`timeout` cannot be -1.0; {SECONDS}"),
        ({"grace": -1}, f"`grace` cannot be -1; {SECONDS}"),
        ({"grace": math.nan}, f"`grace` cannot be nan; {SECONDS}"),
        ({"retry_delay": math.inf}, SECONDS),
        ({"output_limit": -1}, "`output_limit` cannot be -1; it must be a number of bytes"),
        ({"name": ""}, f"`name` cannot be ''; {TEXT}"),
        ({"name": "a\nb"}, f"`name` cannot be 'a\\nb'; {TEXT}"),
        ({"name": None}, "`name` cannot be None; it must be a text"),
        ({"filter": "$["}, "cannot parse the JSONPath: line 1"),
        ({"filter": 123}, "cannot parse the JSONPath: line 1, column 1: '123'"),
        ({"venv": "/nowhere"}, "`venv` (/nowhere) has no bin/python; give it what a VenvBuilder returns"),
        ({"run_as": "no-such-user"}, "the user 'no-such-user' does not exist"),
        ({"run_as": 5}, "the user 5 does not exist on this machine; correct `run_as`"),
    ],
)
def test_runner(tmp_path: Path, arguments: dict[str, Any], problem: str) -> None:
    """A runner with a wrong argument is not made."""
    with pytest.raises(PacificaError) as caught:
        make_runner(tmp_path, "", **arguments)
    assert problem in str(caught.value)
    assert caught.value.advice


def test_closed_runner(tmp_path: Path) -> None:
    """A runner whose context has been left is not entered again."""
    runner = make_runner(tmp_path, "")
    with runner:
        pass
    with pytest.raises(StateError, match="this JobRunner has been closed; create a new one"), runner:
        pass


def test_missing_entry_point(tmp_path: Path) -> None:
    """A missing entry-point is reported before a job needs it."""
    with pytest.raises(ConfigurationError) as caught:
        JobRunner(tmp_path / "none.py", tmp_path / "state", name="n", services=Services())
    expected = f"`entry_point` cannot be {tmp_path}/none.py; it must be the path of an existing file"
    assert str(caught.value) == expected


def test_plain_values(tmp_path: Path) -> None:
    """A filter and an environment may be given as text, and one module to preload, too."""
    venv.create(tmp_path / "other", symlinks=True)
    (packages,) = (tmp_path / "other").glob("lib/python*/site-packages")
    (packages / "ours.pth").write_text(f"{sysconfig.get_path('purelib')}\n{ROOT}\n")
    script = "import sys; sys.exit(0 if sys.prefix.endswith('other') else 1)"
    filter_ = '$["data"][*]'
    with make_runner(tmp_path, script, filter=filter_, venv=str(tmp_path / "other"), preload="json") as runner:
        assert runner.accept(body(1)).verdict is Verdict.UNMATCHED
        job = runner.wait(runner.accept(body(2, {"a": 1})), DEADLINE)
    assert job.state is JobState.SUCCEEDED


def test_threads_that_cannot_be_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A runner whose threads the system refuses says so, and leaves no thread behind."""
    before = set(threading.enumerate())
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "worker 3":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    expected = "not all workers can be started: can't start new thread; set `workers` to fewer"
    with pytest.raises(ConfigurationError, match=expected), make_runner(tmp_path, "", workers=5):
        pytest.fail("it was started")
    assert set(threading.enumerate()) <= before
    monkeypatch.undo()
    assert run_one(make_runner(tmp_path, "")).state is JobState.SUCCEEDED


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: VenvBuilder(timeout=-1), f"`timeout` cannot be -1; {SECONDS}"),
        (lambda: VenvBuilder(run_as="no-such-user"), "does not exist on this machine; correct `run_as`"),
        (lambda: VenvBuilder(directory=__file__), f"`directory` ({__file__}) is not a directory; correct its path"),
        (lambda: VenvBuilder(directory="/nowhere"), "`directory` (/nowhere) is not a directory"),
        (lambda: VenvBuilder(requirements="/no.txt"), "`requirements` cannot be /no.txt; it must be the path of"),
        (lambda: VenvBuilder(init_script="/no.sh"), "`init_script` cannot be /no.sh; it must be the path of an"),
        (lambda: VenvBuilder(installer="conda"), "`installer` ('conda') is unknown; set it to one of auto, uv, pip"),
        (lambda: VenvBuilder(python="/nowhere"), "/nowhere is not a usable Python: No such file or directory; correct"),
        (lambda: Services(producer_url="nope"), "`producer_url` cannot be 'nope'; it must look like http://HOST"),
        (lambda: Services(cartd_url=5), "`cartd_url` cannot be 5; it must look like"),  # type: ignore[arg-type]
        (lambda: ServerLimits(threads=100_000), f"`threads` cannot be 100000; {WORKERS}"),
        (lambda: JobLimits(memory=1 << 80), "; it must be a number of bytes"),
        (lambda: JobLimits(memory="8G"), "`memory` cannot be '8G'; give the value, not its text"),  # type: ignore[arg-type]
        (lambda: Keep(age=-1), f"`age` cannot be -1; {SECONDS}"),
        (lambda: CacheLimits(size=-1), "`size` cannot be -1; it must be a number of bytes"),
        (lambda: Endpoint(accept=lambda *_: [], token=""), f"`token` cannot be this text; {TEXT}"),
        (lambda: Endpoint(accept=lambda *_: [], token="x", max_body=0), "`max_body` cannot be 0; it must be at"),
        (lambda: JobLimits(memory=0), "`memory` cannot be 0; it must be more than 0; None stands for no limit"),
        (lambda: JobBook(""), "`state_dir` cannot be ''; it must be the path of a file or directory"),
        (lambda: VenvBuilder(cache=""), "`cache` cannot be ''; it must be the path of a file or directory"),
        (lambda: Endpoint(accept=lambda *_: [], token=None), "`token` cannot be this text"),  # type: ignore[arg-type]
        (lambda: Services(ca_bundle="no"), "`ca_bundle` cannot be 'no'; give the value, not its text"),
        (lambda: Rate(0), "`limit` cannot be 0; it must be a whole number from 1"),
        (lambda: Sandbox(cartd_port=70_000), f"`cartd_port` cannot be 70000; {PORT}"),
        (lambda: Sandbox(staging_seconds=-1), f"`staging_seconds` cannot be -1; {SECONDS}"),
        (lambda: Sandbox(address=""), f"`address` cannot be ''; {TEXT}"),
        (lambda: subscription(name=""), f"`name` cannot be ''; {TEXT}"),
        (lambda: subscription(target_url="here"), "`target_url` cannot be 'here'; it must look like http://HOST"),
        (lambda: subscription(token="\n"), f"`token` cannot be this text; {TEXT}"),
        (lambda: subscription(auth="digest"), "`auth` cannot be 'digest'; it must be bearer or basic"),
        (lambda: subscription(watch_interval=-1), f"`watch_interval` cannot be -1; {SECONDS}"),
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
