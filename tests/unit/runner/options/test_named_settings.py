"""A message names a setting by its name; the commands show its flag and its variable instead."""

import ast
import inspect
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import pacifica_notifications_consumer
from pacifica_notifications_consumer import JobRunner, VenvBuilder, upload
from pacifica_notifications_consumer.errors import ConfigurationError, PacificaError
from pacifica_notifications_consumer.system.account import Account
from pacifica_notifications_runner.options.settings import OPTIONS, with_flags
from pacifica_notifications_runner.process import logs

LIBRARY = Path(pacifica_notifications_consumer.__file__).parent


@pytest.fixture(scope="module")
def texts() -> list[tuple[str, str]]:
    """The texts in the library's code, docstrings aside, each with its place."""
    found = []
    for path in LIBRARY.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        documented = [node for node in ast.walk(tree) if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)]
        docstrings = {id(node.body[0].value) for node in documented if node.body and isinstance(node.body[0], ast.Expr)}
        found += [
            (f"{path.relative_to(LIBRARY)}:{node.lineno}", node.value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings
        ]
    return found


@pytest.mark.whole
def test_library_names_no_flags(texts: list[tuple[str, str]]) -> None:
    """No text of the library has a flag of the commands in it; a flag of another program is a text of its own."""
    ours = {option.flag for option in OPTIONS.values()}
    found = [(place, flag) for place, text in texts for flag in re.findall("--[a-z-]+", text) if text != flag in ours]
    assert found == []


@pytest.mark.whole
def test_names_in_messages_are_those_of_settings(texts: list[tuple[str, str]]) -> None:
    """A name in backticks is that of a setting, so that a command can show its flag, or of a composer's argument."""
    composers = (JobRunner, VenvBuilder, upload)
    known = {*OPTIONS, *(name for each in composers for name in inspect.signature(each).parameters)}
    found = {name: place for place, text in texts for name in re.findall("`([a-z_]+)`", text)}
    assert {name: place for name, place in found.items() if name not in known} == {"config": found["config"]}
    assert len(found) > 15


def test_composer_reads_the_name() -> None:
    """A program that uses the library gets the setting's name, without a flag that it does not have."""
    with pytest.raises(ConfigurationError, match=r"; correct `run_as`, or make one: useradd --system$"):
        Account.find("nobody of this name")


@pytest.fixture
def restored_logging() -> Iterator[None]:
    """The handlers of the tests come back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.usefixtures("restored_logging")
@pytest.mark.parametrize("log_format", ["text", "json"])
def test_operator_reads_flag_and_variable(capsys: pytest.CaptureFixture[str], log_format: str) -> None:
    """An error that ends a command, and a line of its log, show the flag and the variable, in both forms of the log."""
    logs.set_up_logging(log_format, verbose=False)
    logs.report("command", PacificaError("it is wrong", "correct `run_as`"), log_format)
    logging.getLogger("pacifica_notifications_consumer").warning("look at `%s`", "keep")
    lines = capsys.readouterr().err.splitlines()
    messages = [json.loads(line)["message"] for line in lines] if log_format == "json" else lines
    assert messages[0].endswith("it is wrong; correct --run-as (PACIFICA_RUN_AS)")
    assert messages[1].endswith("look at --keep (PACIFICA_KEEP)")


def test_other_words_stay() -> None:
    """A setting without a flag is shown by its variable, and words in backticks that are not settings stay."""
    text = with_flags("set `password` or `password_file`, not `pass word` or `other`")
    assert with_flags("correct `config`") == "correct --config (PACIFICA_CONFIG)"
    assert text == "set PACIFICA_PASSWORD or --password-file (PACIFICA_PASSWORD_FILE), not `pass word` or `other`"
