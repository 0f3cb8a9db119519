"""Turns the output of an installer into one sentence that names the requirement."""

from __future__ import annotations

import difflib
import re
from importlib.metadata import requires, version

from ..errors import RequirementError
from .wheel import DISTRIBUTION

_US = r"pacifica[-_.]+notifications[-_.]+consumer *[=<>!~]"
_ANOTHER_VERSION_OF_US = re.compile(rf"(?:The user requested|you require) {_US}", re.IGNORECASE)
_WRONG_HASH = re.compile(r"DO NOT MATCH THE HASHES|Hash mismatch for")
_NO_HASH = re.compile(r"Hashes are required|In `--require-hashes` mode")
_CONFLICT = re.compile(r"Cannot install (.+) because these package versions have conflicting dependencies")
#: uv's explanation of a conflict: the dependencies of one requirement contradict another requirement.
_CONTRADICTION = re.compile(r"depends on .*requirements are unsatisfiable", re.DOTALL)
_REQUIRED = re.compile(r"(?<!conclude that )you require ([^\s,]+(?:,[<>=!~][^\s,]+)*)")
_FAILURES = (
    re.compile(r"No matching distribution found for (.+)"),
    re.compile(r"Could not find a version that satisfies the requirement (.+?) \(from"),
    re.compile(r"Invalid requirement: '?(.+?)'?(?:$|:| \()", re.MULTILINE),
    re.compile(r"Could not build wheels for (.+?),"),
    re.compile(r"Failed to build installable wheels for .* \((.+)\)"),
    re.compile(r"Because (\S+) was not found in the "),
    re.compile(r"Because there (?:is|are) no versions? of (\S+?),? and "),
    re.compile(r"Because all versions of (\S+) have no "),
    re.compile(r"Because only .* (?:is|are) available and you require ([^\s,]+)"),
    re.compile(r"Couldn't parse requirement in .*\n\s+(\S.*)\n\s+\^", re.DOTALL),
    re.compile(r"Distribution not found at: (\S+)"),
    re.compile(r"Failed to (?:download and )?build `([^`@ ]+)"),
)


def requirement_error(output: str) -> RequirementError:
    """Find the failed requirement in the output of uv or pip, and suggest a correction."""
    output = "\n".join(line for line in output.splitlines() if not line.startswith("WARNING: "))
    problem, advice = "the requirements cannot be installed", "see the output of the installer below"
    if _ANOTHER_VERSION_OF_US.search(output):
        running = version(DISTRIBUTION)
        problem = f"requirements.txt asks for another version of {DISTRIBUTION} than the running {running}"
        advice = "remove the version: the environment always gets the running one"
    elif _WRONG_HASH.search(output):
        problem = "a package does not match its hash in requirements.txt"
        advice = "find out why the package changed before you accept the new hash"
    elif _NO_HASH.search(output):
        problem = "requirements.txt has a hash for some requirements, but not for all"
        advice = f"add the missing hashes, and remove {DISTRIBUTION}, which is always installed"
    elif names := _contradicting(output):
        problem = f"the requirements {names} contradict each other"
        advice = "loosen the versions in requirements.txt; see the output of the installer below"
    elif name := next((found[1].strip() for each in _FAILURES if (found := each.search(output))), None):
        problem = f"the requirement {name!r} cannot be installed"
        advice = _suggestion(name) or "correct it in requirements.txt; see the output of the installer below"
    return RequirementError(problem, advice, output=output)


def _contradicting(output: str) -> str:
    if found := _CONFLICT.search(output):
        return found[1]
    if _CONTRADICTION.search(output):
        names = list(dict.fromkeys(_REQUIRED.findall(output)))
        return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else ""
    return ""


def _suggestion(requirement: str) -> str:
    """Suggest a package that consumers commonly use and whose name is similar; empty if none is."""
    known = [DISTRIBUTION, *(re.split(r"[^\w.-]", each, maxsplit=1)[0] for each in requires(DISTRIBUTION) or ())]
    name = re.split(r"[^\w.-]", requirement, maxsplit=1)[0].lower()
    close = [match for match in difflib.get_close_matches(name, known, n=1) if match != name]
    return f"did you mean {close[0]!r}? Correct it in requirements.txt" if close else ""
