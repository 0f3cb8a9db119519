"""Checks a consumer for mistakes before it is started."""

from __future__ import annotations

import ast
import difflib
import enum
import json
import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs

from ..cloudevents.announcement import Identity, ingest_event
from ..cloudevents.notification import PROVENANCE_KEY, Notification
from ..environment.package_names import REQUIREMENT_OF
from ..environment.requirements import decoded
from ..environment.venv import Venv
from ..errors import Cancelled, FilterError, PacificaError
from ..filter.filter import Filter
from ..system.account import CURRENT_USER, Account
from .archive import (
    ENTRY_POINT,
    FILTER,
    INIT_SCRIPT,
    PRELOAD,
    REQUIREMENTS,
    Consumer,
    find_init_script,
    read_filter,
    read_preload,
)
from .imports import Import, SourceError, find_imports, parse

_SECONDS = 60.0
#: Modules of Pacifica that upload transactions without `PROVENANCE_KEY`.
_UNMARKED = ("pacifica.uploader", "pacifica.cli")
#: Words in the source of programs that use their arguments.
_READS_ARGUMENTS = (b"argv", b"argparse", b"click", b"typer", b"docopt", b"fire")
#: The media types in the sample notification with which `check_loops` tests a filter.
_SAMPLE_TYPES = ("text/plain", "text/csv", "application/octet-stream", "application/json", "image/png", "image/tiff")


class Level(enum.Enum):
    """The severity of a finding."""

    #: The consumer would not start, or its jobs would fail.
    ERROR = "error"
    #: The consumer may not do what its author wants.
    WARNING = "warning"
    #: Information for the author.
    NOTE = "note"


@attrs.frozen(kw_only=True)
class Finding:
    """A mistake, or a possible one.

    Args:
        level: The severity.
        position: The file, with the line if known: ``__main__.py:12``.
        problem: What is wrong.
        advice: What to do about it; may be empty.
        details: Further lines, such as the output of an installer.
    """

    level: Level
    position: str
    problem: str
    advice: str = ""
    details: str = ""


def check_parts(directory: str | os.PathLike[str]) -> Iterator[Finding]:
    """Check each file of an extracted consumer by itself, so that all mistakes are found at once."""
    directory = Path(directory)
    readers = {FILTER: read_filter, INIT_SCRIPT: find_init_script, PRELOAD: read_preload}
    for name, read in readers.items():
        try:
            read(directory / name)
        except PacificaError as error:
            yield finding_of(error, name)
    modules = sorted(path for path in directory.rglob("*.py") if not path.is_dir())
    for path in modules:
        name = path.relative_to(directory).as_posix()
        try:
            parse(path, name)
        except SourceError as error:
            level = Level.ERROR if name == ENTRY_POINT else Level.WARNING
            yield Finding(level=level, position=f"{name}:{error.line}", problem=error.reason, advice="correct it")
    sources = b"".join(path.read_bytes() for path in modules if path.is_file())
    if not any(word in sources for word in _READS_ARGUMENTS):
        yield Finding(
            level=Level.WARNING,
            position=ENTRY_POINT,
            problem="it does not seem to use its arguments",
            advice="SRC is sys.argv[1], DST is sys.argv[2]",
        )


def finding_of(error: PacificaError, position: str) -> Finding:
    """Make a finding of an error, whose message may begin with the position."""
    problem = error.problem.removeprefix(f"{position}: ")
    return Finding(level=Level.ERROR, position=position, problem=problem, advice=error.advice, details=error.output)


def check_imports(consumer: Consumer, venv: Venv, run_as: Account = CURRENT_USER) -> Iterator[Finding]:
    """Check that the modules that the entry-point imports, or ``preload.txt`` names, are in the environment.

    Args:
        consumer: The consumer.
        venv: The consumer's environment.
        run_as: The user who owns both; None for the user of this process.
    """
    try:
        with run_as.acting():
            found = {each.module: each for each in reversed(list(find_imports(consumer.directory, ENTRY_POINT)))}
    except SourceError:
        return  # check_parts reports it
    wanted = [*found, *(name.partition(".")[0] for name in consumer.preload)]
    for module in _missing(wanted, venv, consumer.directory, run_as):
        if module in found:
            yield _missing_import(found[module], consumer)
        else:
            yield Finding(
                level=Level.WARNING,
                position=PRELOAD,
                problem=f"it names the module {module}, which is not installed",
                advice=f"correct the name, or add the module's package to {REQUIREMENTS}",
            )


def _missing(modules: Sequence[str], venv: Venv, directory: Path, run_as: Account) -> list[str]:
    """Return the modules that an entry-point in this environment and directory could not import."""
    script = (
        "import importlib.util, json, sys; sys.path.insert(0, sys.argv[1]); "
        "print(json.dumps([name for name in sys.argv[2:] if importlib.util.find_spec(name) is None]))"
    )
    finished = subprocess.run(
        [venv.python, "-P", "-c", script, directory, *dict.fromkeys(modules)],
        env=venv.environ(run_as.environ()),
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=True,
        **run_as.popen_arguments(),
    )
    missing: list[str] = json.loads(finished.stdout.splitlines()[-1])
    return missing


def _missing_import(wanted: Import, consumer: Consumer) -> Finding:
    requirement = REQUIREMENT_OF.get(wanted.module, wanted.module)
    advice = f"add {requirement} to {REQUIREMENTS}"
    if consumer.requirements is None:
        advice = f"write a {REQUIREMENTS} with {requirement}"
    elif close := difflib.get_close_matches(wanted.module, _required(consumer.requirements), n=1, cutoff=0.7):
        advice = f"did you mean {close[0]}? Otherwise {advice}"
    return Finding(
        level=Level.WARNING if wanted.optional else Level.ERROR,
        position=f"{wanted.file}:{wanted.line}",
        problem=f"it imports {wanted.module}, which no requirement installs",
        advice=advice,
    )


def _required(requirements: Path) -> list[str]:
    lines = decoded(requirements).splitlines()
    return [found[0].replace("-", "_") for line in lines if (found := re.match(r"[A-Za-z0-9][\w.-]*", line.strip()))]


def check_loops(consumer: Consumer, name: str = "another") -> Iterator[Finding]:
    """Check whether a consumer would process its own uploads, or those of a similar consumer.

    Args:
        consumer: The consumer.
        name: The name of the other consumer, which has uploaded the sample transaction.
    """
    try:
        filter_ = read_filter(consumer.directory / FILTER)
        matches = filter_ is None or filter_.matches(_sample(name))
    except FilterError:
        return  # check_parts reports it
    if not matches:
        return
    unmarked = [module for module in _UNMARKED if _uses(consumer.entry_point, module)]
    if unmarked:
        yield Finding(
            level=Level.ERROR,
            position=ENTRY_POINT,
            problem=f"it uploads with {unmarked[0]}, which does not mark the transactions with the consumer's name, "
            "and the filter may match these transactions: it would process its own uploads in an endless loop",
            advice="upload with pacifica_notifications_consumer.upload, or narrow the filter",
        )
    elif _uses(consumer.entry_point, "pacifica_notifications_consumer.upload"):
        yield Finding(
            level=Level.WARNING if filter_ is None else Level.NOTE,
            position=FILTER,
            problem=f"{'it' if filter_ else 'without a filter it'} matches transactions with files of common "
            "types. The consumer skips its own uploads, which are marked with its name, but two such consumers would "
            "process each other's uploads in an endless loop",
            advice="narrow the filter if other consumers upload similar files",
        )


def _sample(name: str) -> dict[str, Any]:
    """The notification of a transaction that another consumer has uploaded."""
    files = [
        {"destinationTable": "Files", "_id": number, "name": f"{number}.x", "subdir": "", "mimetype": kind, "size": 1}
        for number, kind in enumerate(_SAMPLE_TYPES, 1)
    ]
    attributes = {"_id": 2, "submitter": 10, "project": "1234a", "proposal": "1234a", "instrument": 54}
    rows = [{"destinationTable": f"Transactions.{table}", "value": value} for table, value in attributes.items()]
    mark = {"destinationTable": "TransactionKeyValue", "key": PROVENANCE_KEY, "value": name}
    return ingest_event(Identity().of(2), [*rows, mark, *files])


def _uses(path: Path, name: str) -> bool:
    """Whether a file imports a module, or a name from a module."""
    module, _, attribute = name.rpartition(".")
    try:
        tree = parse(path, path.name)
    except SourceError:
        return False
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = {alias.name for alias in node.names}
            if node.module.startswith(name) or (node.module == module and attribute in names):
                return True
        elif isinstance(node, ast.Import) and any(alias.name.startswith((name, module)) for alias in node.names):
            return name in ast.unparse(tree)
    return False


@attrs.frozen(kw_only=True)
class Match:
    """The result of a filter for a notification.

    Args:
        path: The file of the notification.
        matches: Whether the filter matches.
        explanation: The reason, in lines.
    """

    path: Path
    matches: bool
    explanation: str


def check_notification(filter_: Filter | None, path: str | os.PathLike[str]) -> Match | Finding:
    """Apply a filter to a notification.

    Args:
        filter_: The filter; None matches everything.
        path: The file of the notification.

    Returns:
        The result, or a finding if the file is not a notification or the filter fails.
    """
    path = Path(path)
    try:
        event = Notification.parse(path.read_bytes()).event
        if filter_ is None:
            return Match(path=path, matches=True, explanation=f"without a {FILTER} every notification matches")
        explanation = filter_.explain(event)
        return Match(path=path, matches=explanation.matches, explanation=str(explanation))
    except OSError as error:
        return Finding(level=Level.ERROR, position=str(path), problem=f"cannot read it: {error.strerror}")
    except Cancelled:
        raise
    except PacificaError as error:
        return finding_of(error, str(path))
