"""Find out what would go wrong with a consumer when it is started or run, before it does."""

from __future__ import annotations

import ast
import difflib
import enum
import json
import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs

from ..cloudevents.announcement import Identity, ingest_event
from ..cloudevents.notification import PROVENANCE_KEY, Notification
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
#: Modules that do not have the name of what brings them, and that consumers commonly use.
_BROUGHT_BY = {
    "Bio": "biopython",
    "OpenSSL": "pyOpenSSL",
    "PIL": "Pillow",
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil",
    "dotenv": "python-dotenv",
    "fitz": "PyMuPDF",
    "git": "GitPython",
    "magic": "python-magic",
    "netCDF4": "netCDF4",
    "pacifica": "pacifica-uploader or pacifica-downloader",
    "pacifica_notifications_consumer": "pacifica-notifications-consumer",
    "serial": "pyserial",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "PyYAML",
}
#: What other programs of Pacifica's upload with: nothing marks what they make.
_UNMARKED = ("pacifica.uploader", "pacifica.cli")
#: What modules name that look at the arguments of the program.
_READS_ARGUMENTS = (b"argv", b"argparse", b"click", b"typer", b"docopt", b"fire")
#: A transaction with files of some kinds, for filters to be tried on.
_SAMPLE_TYPES = ("text/plain", "text/csv", "application/octet-stream", "application/json", "image/png", "image/tiff")


class Level(enum.Enum):
    """How bad something is."""

    #: The consumer would not start, or its jobs would fail.
    ERROR = "error"
    #: It may not do what is wanted.
    WARNING = "warning"
    #: It is good to know.
    NOTE = "note"


@attrs.frozen(kw_only=True)
class Finding:
    """Something that was found.

    Args:
        level: How bad it is.
        place: The file, and the line if there is one: ``__main__.py:12``.
        problem: What it is.
        advice: What to do about it; may be empty.
        details: More on it, in lines, such as what an installer said.
    """

    level: Level
    place: str
    problem: str
    advice: str = ""
    details: str = ""


def check_parts(directory: Path) -> Iterator[Finding]:
    """Check the parts of an extracted consumer, each by itself, so that all that is wrong is found at once."""
    readers = {FILTER: read_filter, INIT_SCRIPT: find_init_script, PRELOAD: read_preload}
    for name, read in readers.items():
        try:
            read(directory / name)
        except PacificaError as error:
            yield finding_of(error, name)
    for path in sorted(directory.rglob("*.py")):
        name = path.relative_to(directory).as_posix()
        try:
            parse(path, name)
        except SourceError as error:
            level = Level.ERROR if name == ENTRY_POINT else Level.WARNING
            yield Finding(level=level, place=f"{name}:{error.line}", problem=error.reason, advice="correct it")
    sources = b"".join(path.read_bytes() for path in directory.rglob("*.py"))
    if not any(word in sources for word in _READS_ARGUMENTS):
        yield Finding(
            level=Level.WARNING,
            place=ENTRY_POINT,
            problem="it does not seem to look at its arguments",
            advice="SRC is sys.argv[1], DST is sys.argv[2]",
        )


def finding_of(error: PacificaError, place: str) -> Finding:
    """An error as something that was found."""
    # Some name the place themselves.
    problem = error.problem.removeprefix(f"{place}: ")
    return Finding(level=Level.ERROR, place=place, problem=problem, advice=error.advice, details=error.output)


def check_imports(consumer: Consumer, venv: Venv, run_as: Account = CURRENT_USER) -> Iterator[Finding]:
    """Check that all that the entry-point imports is in its environment.

    Args:
        consumer: The consumer.
        venv: Its environment.
        run_as: The user whose they are, if that is not this process's.
    """
    try:
        with run_as.acting():
            found = {each.module: each for each in reversed(list(find_imports(consumer.directory, ENTRY_POINT)))}
    except SourceError:
        return  # check_parts tells
    wanted = [*found, *(name.partition(".")[0] for name in consumer.preload)]
    missing = _missing(wanted, venv, consumer.directory, run_as)
    for module in missing:
        if module in found:
            yield _missing_import(found[module], consumer)
        else:
            yield Finding(
                level=Level.WARNING,
                place=PRELOAD,
                problem=f"it names {module}, which is not there",
                advice=f"correct it, or add what brings it to {REQUIREMENTS}",
            )


def _missing(modules: Sequence[str], venv: Venv, directory: Path, run_as: Account) -> list[str]:
    """Those modules that an entry-point in this environment and directory would not find."""
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
    requirement = _BROUGHT_BY.get(wanted.module, wanted.module)
    advice = f"add {requirement} to {REQUIREMENTS}"
    if consumer.requirements is None:
        advice = f"write a {REQUIREMENTS} with {requirement}"
    elif close := difflib.get_close_matches(wanted.module, _required(consumer.requirements), n=1, cutoff=0.7):
        advice = f"did you mean {close[0]}? Else {advice}"
    return Finding(
        level=Level.WARNING if wanted.optional else Level.ERROR,
        place=f"{wanted.file}:{wanted.line}",
        problem=f"it imports {wanted.module}, which no requirement brings",
        advice=advice,
    )


def _required(requirements: Path) -> list[str]:
    lines = requirements.read_text(encoding="utf-8", errors="replace").splitlines()
    return [found[0].replace("-", "_") for line in lines if (found := re.match(r"[A-Za-z0-9][\w.-]*", line.strip()))]


def check_loops(consumer: Consumer, name: str = "another") -> Iterator[Finding]:
    """Check whether a consumer would feed on what it, or one like it, uploads."""
    try:
        filter_ = read_filter(consumer.directory / FILTER)
        matches = filter_ is None or filter_.matches(_sample(name))
    except FilterError:
        return  # check_parts tells
    if not matches:
        return
    what = "it also matches" if filter_ else "there is none, so every transaction matches,"
    unmarked = [module for module in _UNMARKED if _uses(consumer.entry_point, module)]
    if unmarked:
        yield Finding(
            level=Level.ERROR,
            place=ENTRY_POINT,
            problem=f"it uploads with {unmarked[0]}, which does not mark what it uploads, and {FILTER} matches "
            "what it may make: it would feed on its own output for ever",
            advice="upload with pacifica_notifications_consumer.upload, or narrow the filter",
        )
    elif _uses(consumer.entry_point, "pacifica_notifications_consumer.upload"):
        yield Finding(
            level=Level.WARNING if filter_ is None else Level.NOTE,
            place=FILTER,
            problem=f"{what} what consumers make of text, tables or images; its own uploads are left alone, since they "
            "carry its name, but two such consumers would feed each other for ever",
            advice="narrow the filter if others upload the like",
        )


def _sample(name: str) -> dict[str, Any]:
    """The notification of a transaction that another consumer made."""
    files = [
        {"destinationTable": "Files", "_id": number, "name": f"{number}.x", "subdir": "", "mimetype": kind, "size": 1}
        for number, kind in enumerate(_SAMPLE_TYPES, 1)
    ]
    attributes = {"_id": 2, "submitter": 10, "project": "1234a", "proposal": "1234a", "instrument": 54}
    rows = [{"destinationTable": f"Transactions.{table}", "value": value} for table, value in attributes.items()]
    mark = {"destinationTable": "TransactionKeyValue", "key": PROVENANCE_KEY, "value": name}
    return ingest_event(Identity().of(2), [*rows, mark, *files])


def _uses(path: Path, name: str) -> bool:
    """Whether a file imports a module, or a name of one."""
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
    """Whether a filter matches a notification.

    Args:
        path: The notification.
        matches: Whether it does.
        explanation: Why, or why not, in lines.
    """

    path: Path
    matches: bool
    explanation: str


def check_notification(filter_: Filter | None, path: Path) -> Match | Finding:
    """Check a filter against a notification."""
    try:
        event = Notification.parse(path.read_bytes()).event
        if filter_ is None:
            return Match(path=path, matches=True, explanation=f"there is no {FILTER}: everything matches")
        explanation = filter_.explain(event)
        return Match(path=path, matches=explanation.matches, explanation=str(explanation))
    except OSError as error:
        return Finding(level=Level.ERROR, place=str(path), problem=f"cannot read it: {error.strerror}")
    except Cancelled:
        raise
    except PacificaError as error:
        return finding_of(error, str(path))
