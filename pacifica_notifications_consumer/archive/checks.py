"""Checks a consumer for mistakes before it is started."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ..errors import PacificaError
from ..filter.filter import Filter
from ..system.account import CURRENT_USER, Account
from .archive import (
    ENTRY_POINT,
    FILTER,
    INIT_SCRIPT,
    PRELOAD,
    find_init_script,
    misnamed_parts,
    read_filter,
    read_preload,
)
from .filter_checks import check_filter, check_tables
from .findings import Finding, Level, finding_of
from .import_checks import check_sources, read_sources

#: Words in the source of programs that use their arguments.
_READS_ARGUMENTS = (b"argv", b"argparse", b"click", b"typer", b"docopt", b"fire")


def check_parts(
    directory: str | os.PathLike[str], python: str | None = None, run_as: Account = CURRENT_USER
) -> Iterator[Finding]:
    """Check each file of an extracted consumer by itself, so that all mistakes are found at once.

    Args:
        directory: The consumer's directory.
        python: The interpreter that is to run the consumer; by default this one.
        run_as: The user who owns the directory.

    Raises:
        ConfigurationError: The interpreter is not usable.
    """
    directory = Path(directory)
    for name, problem, advice in misnamed_parts(path.name for path in directory.iterdir()):
        yield Finding(level=Level.WARNING, position=name, problem=problem, advice=advice)
    readers = {FILTER: read_filter, INIT_SCRIPT: find_init_script, PRELOAD: read_preload}
    for name, read in readers.items():
        try:
            part = read(directory / name)
        except PacificaError as error:
            yield finding_of(error, name)
        else:
            if isinstance(part, Filter):
                yield from check_filter(part)
    sources = read_sources(directory, python, run_as)
    yield from check_sources(directory, sources)
    yield from check_tables(directory, sources.reached)
    everything = b"".join(path.read_bytes() for path in directory.rglob("*.py") if path.is_file())
    if not any(word in everything.replace(b"\0", b"") for word in _READS_ARGUMENTS):
        yield Finding(
            level=Level.WARNING,
            position=ENTRY_POINT,
            problem="it does not seem to use its arguments",
            advice="SRC is sys.argv[1], DST is sys.argv[2]",
        )
