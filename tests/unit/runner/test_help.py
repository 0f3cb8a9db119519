"""The help of the commands is made of the settings: few first, in groups, limits only on demand."""

import re

import pytest

from pacifica_notifications_runner import cli, start
from pacifica_notifications_runner.operating.completion import flags, subcommands, walk
from pacifica_notifications_runner.options import start_command
from pacifica_notifications_runner.options.settings import LIMITS, OPTIONS

GROUPS = ["Consumer", "Pacifica", "Endpoint", "Jobs", "Environment", "Many machines", "Status page", "Security"]


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        (start.main if arguments[0].startswith("-") else cli.main)(list(arguments))
    assert ended.value.code == 0
    return capsys.readouterr().out


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines break at this width."""
    monkeypatch.setenv("COLUMNS", "80")


def test_help_of_the_start_command(capsys: pytest.CaptureFixture[str]) -> None:
    """The usage has two lines, eight options come first, and the groups follow, without the limits."""
    text = shown(capsys, "--help")
    usage = text.partition("\n\n")[0].splitlines()
    assert len(usage) == 2
    assert max(map(len, usage)) <= 80
    assert re.findall(r"^([A-Z][\w ]+):$", text, re.MULTILINE) == ["Most needed", *GROUPS, "Help"]
    first = text.partition("\nMost needed:\n")[2].partition("\n\n")[0]
    assert len(re.findall(r"^  --", first, re.MULTILINE)) == 8
    assert "--max-body" not in text


def test_help_with_limits(capsys: pytest.CaptureFixture[str]) -> None:
    """All flags of the start command are shown on demand, each once."""
    text = shown(capsys, "--help-all")
    assert re.findall(r"^([A-Z][\w ]+):$", text, re.MULTILINE) == ["Most needed", *GROUPS, LIMITS, "Help"]
    found = re.findall(r"^  (?:-h, )?(--[a-z-]+)", text, re.MULTILINE)
    expected = [action.option_strings[-1] for action in flags(start_command.make_parser())]
    assert sorted(found) == sorted(expected)


@pytest.mark.parametrize("command", ["check", "run", "worker"])
def test_help_of_a_subcommand_with_limits(capsys: pytest.CaptureFixture[str], command: str) -> None:
    """A subcommand that has limits shows them on demand, too."""
    assert "--archive-size" not in shown(capsys, command, "--help")
    assert "--archive-size" in shown(capsys, command, "--help-all")


def test_defaults_are_shown_as_they_are_written() -> None:
    """No default is shown in the form of Python, and each default that is shown is read as the same value."""
    texts = [
        action.help or ""
        for parser in (start_command.make_parser(), cli.make_parser())
        for _, each in walk(parser)
        for action in flags(each)
    ]
    defaults = [found for text in texts for found in re.findall(r"\(default: (.*?)\) \[PACIFICA", text)]
    assert [text for text in defaults if re.search(r"None|True|False|[('\[<].*[)'\]>]|\w=", text)] == []
    assert len(defaults) > 50
    wrong = [
        option.name
        for option in OPTIONS.values()
        if option.shown_default and option.convert(option.shown_default) != option.default
    ]
    assert wrong == []


def test_flags_of_subcommands_are_not_settings() -> None:
    """No flag of a subcommand's own is called like a setting, since its text would be taken for that."""
    for path, parser in walk(cli.make_parser()):
        for action in flags(parser) if not subcommands(parser) else ():
            option = OPTIONS.get(action.dest)
            assert option is None or action.option_strings == [option.flag], path
