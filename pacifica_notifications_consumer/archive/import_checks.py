"""Checks the modules of a consumer: their syntax, their names, and what they import."""

from __future__ import annotations

import difflib
import json
import re
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..environment.interpreter import Interpreter
from ..environment.package_names import REQUIREMENT_OF
from ..environment.requirements import decoded
from ..environment.venv import Venv
from ..system.account import CURRENT_USER, Account
from . import imports
from .archive import ENTRY_POINT, PRELOAD, REQUIREMENTS, Consumer
from .findings import Finding, Level
from .imports import Import, Sources

_SECONDS = 60.0
#: Modules of the standard library that newer Pythons do not have.
_REMOVED = {
    *("aifc", "asynchat", "asyncore", "audioop", "cgi", "cgitb", "chunk", "crypt", "distutils", "imghdr", "imp"),
    *("lib2to3", "mailcap", "msilib", "nis", "nntplib", "ossaudiodev", "pipes", "smtpd", "sndhdr", "spwd", "sunau"),
    *("telnetlib", "uu", "xdrlib"),
}
#: Modules of the standard library that older Pythons do not have, this one perhaps among them.
_ADDED = {
    **dict.fromkeys(("annotationlib", "compression", "concurrent.interpreters", "string.templatelib"), "3.14"),
    "profiling": "3.15",
}
_STANDARD = _REMOVED | _ADDED.keys() | sys.stdlib_module_names


def check_sources(directory: Path, sources: Sources) -> Iterator[Finding]:
    """Check the modules of a consumer by themselves, without an environment."""
    for file, line, reason in sources.errors:
        level = Level.ERROR if file in sources.reached else Level.WARNING
        advice = "save it as UTF-8" if "is not text in" in reason else "correct it"
        yield Finding(level=level, position=f"{file}:{line}" if line else file, problem=reason, advice=advice)
    for each in sources.imports:
        if each.problem:
            yield _import_finding(each, each.problem, each.advice)
    for name in sources.shadows:
        yield _shadow(directory, name, "the standard library")


def read_sources(directory: Path, python: str | None = None, run_as: Account = CURRENT_USER) -> Sources:
    """Read the modules of a consumer by the grammar of an interpreter, by default this one.

    Raises:
        ConfigurationError: The interpreter is not usable.
    """
    if python is None or python == sys.executable:
        with run_as.acting():
            return imports.read_sources(directory, ENTRY_POINT)
    interpreter = Interpreter.probe(python, run_as)
    return _ask([interpreter.executable, "-I"], run_as.environ(), run_as, "grammar", directory)[0]


def _ask(
    python: Sequence[str | Path], environ: Mapping[str, str], run_as: Account, task: str, directory: Path, *preload: str
) -> tuple[Sources, dict[str, Any]]:
    """Run `imports` in an interpreter."""
    program = Path(imports.__file__).read_text(encoding="utf-8")
    finished = subprocess.run(
        [*python, "-c", program, task, directory, ENTRY_POINT, *preload],
        env=environ,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=True,
        **run_as.popen_arguments(),
    )
    answer = json.loads(finished.stdout.splitlines()[-1])
    sources = Sources(**{name: answer.pop(name) for name in Sources._fields})
    return sources._replace(imports=[Import(*each) for each in sources.imports]), answer


def check_imports(consumer: Consumer, venv: Venv, run_as: Account = CURRENT_USER) -> Iterator[Finding]:
    """Check that the modules that the entry-point imports, or ``preload.txt`` names, are in the environment.

    Args:
        consumer: The consumer.
        venv: The consumer's environment.
        run_as: The user who owns both; None for the user of this process.
    """
    environ = venv.environ(run_as.environ())
    try:
        sources, answer = _ask(
            [venv.python, "-P"], environ, run_as, "environment", consumer.directory, *consumer.preload
        )
    except (subprocess.SubprocessError, ValueError, IndexError) as error:
        # It imports packages that seem to be incomplete, which may end the interpreter, or never return.
        problem = f"whether its imports succeed is not known: {error.__class__.__name__} in the environment's Python"
        details = getattr(error, "stderr", None) or ""
        yield Finding(level=Level.WARNING, position=ENTRY_POINT, problem=problem, details=str(details))
        return
    missing = {*answer["missing"], *(each.module for each in sources.imports if each.problem)}
    # Those that must succeed come first, and each module is reported once.
    for each in sorted(sources.imports, key=lambda each: each.optional):
        if each.problem or not all(any(_is_in(module, missing) for module in tried) for tried in each.instead_of):
            continue
        for module in [module for module in answer["missing"] if _is_part(module, each)]:
            answer["missing"].remove(module)
            # Other Pythons have it, and the program knows.
            if each.optional != imports.HANDLED or module.partition(".")[0] not in _STANDARD:
                yield _missing_import(each, module, consumer, answer["python"], run_as)
    for module in consumer.preload:
        if _is_in(module, missing):
            yield Finding(
                level=Level.WARNING,
                position=PRELOAD,
                problem=f"it names the module {module}, which is not installed",
                advice=f"correct the name, or add the module's package to {REQUIREMENTS}",
            )
    for name in answer["hidden"]:
        yield _shadow(consumer.directory, name, "an installed package")


def _is_in(module: str, missing: Collection[str]) -> bool:
    return any(f"{module}.".startswith(f"{each}.") for each in missing)


def _is_part(missing: str, wanted: Import) -> bool:
    return _is_in(wanted.module, [missing]) or any(missing == f"{wanted.module}.{name}" for name in wanted.names)


def _shadow(directory: Path, name: str, of: str) -> Finding:
    return Finding(
        level=Level.WARNING,
        position=f"{name}.py" if (directory / f"{name}.py").is_file() else f"{name}/",
        problem=f"it has the name of a module of {of}, so importing {name} may find the wrong one of the two, in the "
        "entry-point or in an installed package",
        advice="rename it",
    )


def _import_finding(wanted: Import, problem: str, advice: str) -> Finding:
    return Finding(
        level=Level.WARNING if wanted.optional else Level.ERROR,
        position=f"{wanted.file}:{wanted.line}",
        problem=problem,
        advice=advice,
    )


def _missing_import(wanted: Import, missing: str, consumer: Consumer, version: str, run_as: Account) -> Finding:
    top = missing.partition(".")[0]
    if top in _STANDARD:
        advice = "do without it, or set `python`" if top == missing else "correct the name, or set `python`"
        advice += f" to {_ADDED[missing]} or later" if missing in _ADDED else ""
        return _import_finding(wanted, f"it imports {missing}, which this Python {version} does not have", advice)
    if top != missing:
        advice = "" if (consumer.directory / top).is_dir() else f", or the version of {top}"
        return _import_finding(wanted, f"it imports {missing}, which {top} does not have", f"correct the name{advice}")
    requirement = REQUIREMENT_OF.get(top, top)
    advice = f"add {requirement} to {REQUIREMENTS}"
    if consumer.requirements is None:
        advice = f"write a {REQUIREMENTS} with {requirement}"
    elif close := difflib.get_close_matches(top, _required(consumer.requirements, run_as), n=1, cutoff=0.7):
        advice = f"did you mean {close[0]}? Otherwise {advice}"
    return _import_finding(wanted, f"it imports {top}, which no requirement installs", advice)


def _required(requirements: Path, run_as: Account) -> list[str]:
    with run_as.acting():  # init.sh may have put a link there
        lines = decoded(requirements).splitlines()
    return [found[0].replace("-", "_") for line in lines if (found := re.match(r"[A-Za-z0-9][\w.-]*", line.strip()))]
