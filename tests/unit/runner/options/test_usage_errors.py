"""A wrong command line is explained with the usage of the command that it is for."""

import pytest

from pacifica_notifications_runner import cli, start

TOOL, START = "pacifica-notifications-consumer", "start-pacifica-notifications-consumer"


def refused(capsys: pytest.CaptureFixture[str], command: str) -> list[str]:
    """The lines of the error of a command line."""
    program, *arguments = command.split()
    with pytest.raises(SystemExit) as ended:
        (start.main if program == START else cli.main)(arguments)
    assert ended.value.code == 2
    return capsys.readouterr().err.splitlines()


@pytest.mark.parametrize(
    ("command", "usage", "problem"),
    [
        (f"{TOOL} --bogus", TOOL, "unrecognized arguments: --bogus"),
        (f"{TOOL} jobs --bogus", f"{TOOL} jobs", "unrecognized arguments: --bogus"),
        (f"{TOOL} jobs list --bogus", f"{TOOL} jobs list", "unrecognized arguments: --bogus"),
        (f"{TOOL} jobs list more", f"{TOOL} jobs list", "unrecognized arguments: more"),
        (f"{TOOL} sandbox upload --bogus", f"{TOOL} sandbox upload", "unrecognized arguments: --bogus"),
        (f"{START} --bogus", START, "unrecognized arguments: --bogus"),
        (f"{START} consumer.zip -x", START, "unrecognized arguments: -x"),
        (f"{START} --stat-dir=x", START, "unrecognized arguments: --stat-dir; did you mean --state-dir?"),
        (
            f"{TOOL} run a b --stat-dir x",
            f"{TOOL} run",
            "unrecognized arguments: --stat-dir; did you mean --state-dir?",
        ),
        (
            f"{START} a --archive-ratio 9",
            START,
            "unrecognized arguments: --archive-ratio",
        ),
        (
            f"{TOOL} check a --archive-ratio=9",
            f"{TOOL} check",
            "unrecognized arguments: --archive-ratio",
        ),
    ],
)
def test_unknown_flags(capsys: pytest.CaptureFixture[str], command: str, usage: str, problem: str) -> None:
    """An unknown flag is named, before other faults, with the flag that was meant or the reason of its removal."""
    lines = refused(capsys, command)
    assert lines[0].startswith(f"usage: {usage} ")
    assert lines[-1] == f"{usage}: error: {problem}"


def test_values_may_look_like_flags(capsys: pytest.CaptureFixture[str]) -> None:
    """Only flags are checked: neither the words after -- nor those of a subcommand."""
    assert refused(capsys, f"{TOOL} jobs retry -- --bogus")[-1].endswith("argument ID: invalid int value: '--bogus'")
