"""pacifica-notifications-consumer run: one job on this machine, and entry-points run by hand."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import pytest

from pacifica_notifications_consumer.testing.sandbox import Sandbox
from tests.endtoend.conftest import (
    KEEPER,
    NOTIFICATIONS,
    TODAYS_EXAMPLE,
    TOOL,
    WAITER,
    Operator,
    contents,
    event,
    jobs_in,
    pack,
    send,
    wait_until,
)
from tests.support.paths import DATA

#: What rejects, what handles, and the exit statuses that are to come of it.
REJECTED = """\
import sys
from pacifica_notifications_consumer import download, upload
from promise import Promise
print("begun")
download(sys.argv[1] + "/nowhere").then(lambda event: print("never"))
print("ended")
"""
REJECTED_IN_CALLBACK = """\
from promise import Promise
from pacifica_notifications_consumer import download
Promise.resolve(1).then(lambda one: 1 / 0)
"""
HANDLED = """\
import sys
from pacifica_notifications_consumer import download
download(sys.argv[1] + "/nowhere").then(lambda event: print("never")).catch(lambda error: print("handled"))
"""
ENDINGS = [
    pytest.param(REJECTED, 120, "nowhere/notification.json", id="rejected"),
    pytest.param(REJECTED_IN_CALLBACK, 120, "ZeroDivisionError: division by zero", id="callback"),
    pytest.param(HANDLED, 0, "handled", id="handled"),
    pytest.param("import sys; sys.exit('no!')", 1, "no!", id="message"),
    pytest.param("import sys; sys.exit(7)", 7, "", id="seven"),
    pytest.param("import sys; sys.exit(75)", 75, "", id="later"),
    pytest.param("import os; os.kill(os.getpid(), 9)", 137, "", id="killed"),
]


@pytest.fixture
def notification(tmp_path: Path) -> Path:
    path = tmp_path / "notification.json"
    path.write_bytes(event(1))
    return path


@pytest.mark.parametrize(("script", "status", "words"), ENDINGS)
def test_exit_status_is_the_entry_points(
    operator: Operator, tmp_path: Path, quick_python: Path, notification: Path, script: str, status: int, words: str
) -> None:
    """The command ends as the entry-point does, an unhandled rejection included, and shows what it printed."""
    archive = pack(tmp_path / "consumer.zip", {"__main__.py": script})
    state = tmp_path / "state"
    outcome = operator.run(TOOL, "run", archive, notification, "--python", quick_python, "--state-dir", state)
    assert outcome.status == status
    assert words in outcome.stdout
    assert ("dead: signal 9 (Killed)" in outcome.stderr) == (status == 137)
    later = "dead: asks to be tried again later, with exit status 75"
    assert (later in outcome.stderr) == (status == 75)
    assert "never" not in outcome.stdout
    assert ("Unhandled promise rejection" in outcome.stdout) == (status == 120)
    assert jobs_in(state) == {"succeeded" if status == 0 else "dead": 1}
    assert (state / "jobs" / "1" / "output.log").read_text() == outcome.stdout
    assert operator.leftovers() == []


@pytest.mark.parametrize(("script", "status", "words"), ENDINGS[:6])
def test_exit_status_by_hand(operator: Operator, tmp_path: Path, script: str, status: int, words: str) -> None:
    """Run as ``python __main__.py SRC DST`` it ends with the same status and shows the same error."""
    (tmp_path / "__main__.py").write_text(script)
    source, destination = tmp_path / "src", tmp_path / "dst"
    source.mkdir()
    destination.mkdir()
    outcome = operator.run(sys.executable, tmp_path / "__main__.py", source, destination)
    assert outcome.status == status
    assert words in outcome.stdout + outcome.stderr
    assert ("Unhandled promise rejection" in outcome.stderr) == (status == 120)


def test_todays_example_runs_locally(operator: Operator, sandbox: Sandbox, tmp_path: Path) -> None:
    """The example as shipped, in a real environment: downloads, uploads, says so on stdout, ends with 0."""
    archive = pack(tmp_path / "consumer.zip", contents(TODAYS_EXAMPLE))
    before = send(sandbox, tmp_path / "instrument", {"deep/er/a.txt": b"alpha\n"})
    path = tmp_path / "notification.json"
    path.write_bytes(sandbox.notification(before))
    flags = ("--username", "alice", "--name", "mine")
    outcome = operator.run(TOOL, "run", archive, path, *flags, variables=sandbox.environ())
    assert (outcome.status, outcome.stdout) == (0, f'uploaded "metadata.ingest.{before + 1}"\n')
    assert sandbox.transactions() == [before, before + 1]
    assert sandbox.read(before + 1) == {"deep/er/a.txt": b"ALPHA\n"}
    assert sandbox.subscriptions() == []
    assert operator.processes() == {}
    # Without --state-dir the job's directory is a new one, which the command names, and stays.
    (left,) = operator.tmp.iterdir()
    assert left.name.startswith("pacifica-run-")
    assert outcome.stderr.splitlines()[-1].endswith(f"run: succeeded; {left}/jobs/1")


@pytest.mark.parametrize("path", NOTIFICATIONS, ids=lambda path: path.stem)
def test_real_notifications_drive_it(operator: Operator, tmp_path: Path, quick_python: Path, path: Path) -> None:
    """The real services' notifications reach the entry-point unchanged."""
    archive = pack(tmp_path / "consumer.zip", {"__main__.py": KEEPER})
    state = tmp_path / "state"
    outcome = operator.run(TOOL, "run", archive, path, "--python", quick_python, "--state-dir", state)
    assert (outcome.status, outcome.stdout) == (0, "kept\n")
    assert "run: succeeded: 1 file lies beside uploads/, none was uploaded; " in outcome.stderr
    assert (state / "jobs" / "1" / "incoming" / "notification.json").read_bytes() == path.read_bytes()
    seen = json.loads((state / "jobs" / "1" / "outgoing" / "seen.json").read_text())
    assert seen["folders"] == (["sub0", "sub1"] if path.stem == "ingest-nested-files" else [])
    assert operator.leftovers() == []


def test_directory_of_any_name(operator: Operator, quick_python: Path, notification: Path) -> None:
    """A trial does not need the name, which a deployed consumer could not have."""
    directory = operator.home / "größe"
    directory.mkdir()
    (directory / "__main__.py").write_text("import sys\nprint(len(sys.argv))\n")
    outcome = operator.run(TOOL, "run", directory, notification, "--python", quick_python)
    assert (outcome.status, outcome.stdout) == (0, "3\n"), outcome.stderr


@pytest.mark.parametrize("name", ["ingest-no-files", "orm-files"])
def test_notification_that_does_not_match(operator: Operator, tmp_path: Path, name: str) -> None:
    """Nothing is run for it, and no environment is made: status 66."""
    archive = pack(tmp_path / "consumer.zip", contents(TODAYS_EXAMPLE))
    outcome = operator.run(TOOL, "run", archive, DATA / "notifications" / f"{name}.json")
    assert (outcome.status, outcome.stdout) == (66, "")
    said, *why = outcome.stderr.splitlines()
    assert said == f"{TOOL} run: nothing was run: the notification does not match the consumer's jsonpath2.txt"
    assert why[0].startswith("    it does not match: $")
    assert any(" holds for 0 of " in line for line in why)
    assert operator.leftovers() == []


def test_own_upload_is_not_run(operator: Operator, tmp_path: Path, quick_python: Path) -> None:
    """A notification of the consumer's own upload is left alone, and leaves nothing: status 66."""
    archive = pack(tmp_path / "consumer.zip", {"__main__.py": KEEPER})
    path = tmp_path / "own.json"
    row = {"destinationTable": "TransactionKeyValue", "key": "pacifica-notifications-consumer", "value": "mine"}
    path.write_bytes(event(1, data=[row]))
    outcome = operator.run(TOOL, "run", archive, path, "--name", "mine", "--python", quick_python)
    assert (outcome.status, outcome.stdout) == (66, "")
    assert "announces an upload of this consumer itself" in outcome.stderr
    assert operator.leftovers() == []


def test_twice_in_one_state_directory(
    operator: Operator, tmp_path: Path, quick_python: Path, notification: Path
) -> None:
    """The second run of one notification is a duplicate, as it would be under the runner: status 66."""
    archive = pack(tmp_path / "consumer.zip", {"__main__.py": KEEPER})
    flags = ("--python", quick_python, "--state-dir", tmp_path / "state")
    outcomes = [operator.run(TOOL, "run", archive, notification, *flags) for _ in range(2)]
    assert [outcome.status for outcome in outcomes] == [0, 66]
    assert jobs_in(tmp_path / "state") == {"succeeded": 1}
    assert operator.leftovers() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_ends_the_job(
    operator: Operator, tmp_path: Path, quick_python: Path, notification: Path, number: signal.Signals
) -> None:
    """A signal ends the entry-point and the command, with status 130 and the environment removed."""
    archive = pack(tmp_path / "consumer.zip", {"__main__.py": WAITER})
    state = tmp_path / "state"
    command = operator.command(TOOL, "run", archive, notification, "--python", quick_python, "--state-dir", state)
    wait_until((state / "jobs" / "1" / "outgoing" / "began").exists, "the entry-point runs")
    outcome = command.stop(number)
    assert (outcome.status, "stopped by a signal" in outcome.error(TOOL)) == (130, True)
    assert operator.leftovers() == []
    # The job is left in the queue, and is nobody's business but its own runner's.
    other = pack(tmp_path / "other.zip", {"__main__.py": KEEPER})
    outcome = operator.run(TOOL, "run", other, notification, "--python", quick_python, "--state-dir", state)
    assert (outcome.status, "has jobs that are not finished (1); let the start" in outcome.error(TOOL)) == (73, True)
    assert jobs_in(state) == {"queued": 1}


def test_time_limit(operator: Operator, tmp_path: Path, quick_python: Path, notification: Path) -> None:
    """An entry-point that takes too long has failed, even if it exits with 0 when it is asked to end."""
    source = "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\ntime.sleep(100)\n"
    archive = pack(tmp_path / "consumer.zip", {"__main__.py": source})
    outcome = operator.run(
        TOOL,
        "run",
        archive,
        notification,
        "--python",
        quick_python,
        "--job-timeout",
        "1",
        "--state-dir",
        tmp_path / "s",
    )
    assert (outcome.status, "dead: took longer than 1 seconds" in outcome.stderr) == (143, True)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot read"),
        (b"", "the notification is empty; send"),
        (b"{", "the notification is not JSON: "),
        (b"[1]", "the notification is a JSON array; send an object"),
    ],
)
def test_file_that_is_no_notification(operator: Operator, tmp_path: Path, content: bytes | None, words: str) -> None:
    """It is refused with status 65 before anything is made."""
    archive = pack(tmp_path / "consumer.zip", {"__main__.py": KEEPER})
    path = tmp_path / "n.json"
    if content is not None:
        path.write_bytes(content)
    outcome = operator.run(TOOL, "run", archive, path)
    assert (outcome.status, words in outcome.error(TOOL)) == (65, True)
    assert operator.leftovers() == []


def test_unusable_archive(operator: Operator, tmp_path: Path, notification: Path) -> None:
    """It is refused as by the start command."""
    archive = pack(tmp_path / "consumer.zip", {"inner/__main__.py": KEEPER})
    outcome = operator.run(TOOL, "run", archive, notification)
    assert (outcome.status, "in the folder 'inner', not at the top" in outcome.error(TOOL)) == (65, True)
    assert operator.leftovers() == []


def test_state_directory_that_is_in_use(
    operator: Operator, tmp_path: Path, quick_python: Path, notification: Path
) -> None:
    """Two runs cannot share a state directory: the second names the first."""
    archive = pack(tmp_path / "consumer.zip", {"__main__.py": WAITER})
    arguments = (TOOL, "run", archive, notification, "--python", quick_python, "--state-dir", tmp_path / "state")
    first = operator.command(*arguments, "--name", "first")
    outgoing = tmp_path / "state" / "jobs" / "1" / "outgoing"
    wait_until((outgoing / "began").exists, "the entry-point runs")
    second = operator.run(*arguments)
    (outgoing / "go").touch()
    assert (second.status, f"in use by first (process {first.process.pid})" in second.error(TOOL)) == (73, True)
    assert first.end().status == 0
    assert operator.leftovers() == []


def test_output_is_passed_on_as_it_is(
    operator: Operator, tmp_path: Path, quick_python: Path, notification: Path
) -> None:
    """Bytes that are no text, and several megabytes of them, arrive on standard output whole and in order."""
    script = "import sys\nfor number in range(300_000):\n    sys.stdout.buffer.write(b'%07d\\xff\\n' % number)\n"
    archive = pack(tmp_path / "consumer.zip", {"__main__.py": script})
    state = tmp_path / "state"
    command = operator.command(TOOL, "run", archive, notification, "--python", quick_python, "--state-dir", state)
    assert command.end().status == 0
    assert command.stdout_bytes == b"".join(b"%07d\xff\n" % number for number in range(300_000))
