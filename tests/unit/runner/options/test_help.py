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
    assert re.findall(r"^([A-Z][\w ]+):$", text, re.MULTILINE) == ["Most needed", *GROUPS]
    first = text.partition("\nMost needed:\n")[2].partition("\n\n")[0]
    assert len(re.findall(r"^  --", first, re.MULTILINE)) == 8
    assert "--max-body" not in text


def test_help_with_limits(capsys: pytest.CaptureFixture[str]) -> None:
    """All flags of the start command are shown on demand, each once."""
    text = shown(capsys, "--help-all")
    assert re.findall(r"^([A-Z][\w ]+):$", text, re.MULTILINE) == ["Most needed", *GROUPS, LIMITS]
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


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_help_fits_the_terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    """No help is wider than the terminal, and each name of a variable stays in one line."""
    monkeypatch.setenv("COLUMNS", str(columns))
    for program, parser in cli.all_parsers().items():
        for path, each in walk(parser):
            text = each.format_help()
            assert [line for line in text.splitlines() if len(line) > columns] == [], (program, path)
            variables = {f"[{OPTIONS[action.dest].variable}]" for action in flags(each) if action.dest in OPTIONS}
            assert [name for name in variables if name not in text] == [], (program, path)


def test_wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a very wide terminal lines stay readable."""
    monkeypatch.setenv("COLUMNS", "300")
    assert max(map(len, start_command.make_parser().format_help().splitlines())) <= 120


def test_examples_stay_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """Paragraphs are filled, but each example has its own line."""
    text = shown(capsys, "jobs", "--help")
    assert "\n  pacifica-notifications-consumer jobs log --name sums -f 17\n" in text


def test_variables_are_not_broken_at_hyphens(capsys: pytest.CaptureFixture[str]) -> None:
    """A path or a name with hyphens stays whole where a line has room for it."""
    text = shown(capsys, "--help")
    assert "~/.local/state/pacifica-notifications-consumer/NAME" in text
    assert "[pacifica-notifications-consumer]" in text


def test_flags_of_subcommands_are_not_settings() -> None:
    """No flag of a subcommand's own is called like a setting, since its text would be taken for that."""
    for path, parser in walk(cli.make_parser()):
        for action in flags(parser) if not subcommands(parser) else ():
            option = OPTIONS.get(action.dest)
            assert option is None or action.option_strings == [option.flag], path
