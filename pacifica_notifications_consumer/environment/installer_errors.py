"""Turns the output of an installer into one sentence that names the requirement and what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.metadata import version
from urllib.parse import urlsplit

from ..errors import RequirementError, VenvError
from .package_names import REQUIREMENT_OF, meant
from .wheel import DISTRIBUTION, MEANT, MISNOMER

_MOST, _LONG_LINE = 100_000, re.compile(r"(.{2000}).+")
_SPECIFIER = r"[^\s,]+(?:,[<>=!~][^\s,]+)*"
_US = r"pacifica[-_.]+notifications[-_.]+consumer *[=<>!~]"
_ANOTHER_VERSION_OF_US = re.compile(rf"(?:The user requested|you require) {_US}", re.IGNORECASE)
_ANOTHER_PROMISE = re.compile(
    rf"(?:The user requested(?: \(constraint\))?|you require) (?={MISNOMER}[=<>!~])({_SPECIFIER})", re.IGNORECASE
)
_WRONG_HASH = re.compile(r"DO NOT MATCH THE HASHES|Hash mismatch for")
_NO_HASH = re.compile(r"Hashes are required|In `?--require-hashes`? mode")
_CONFLICT = re.compile(r"Cannot install (.+) because these package versions have conflicting dependencies")
#: What pip says about the parts of a conflict: a requirement, or a package whose dependencies belong to it.
_CONFLICTING = re.compile(r"^ {4}(?:The user requested (?:\(constraint\) )?(.+)|(\S+) \S+ depends on .+)", re.MULTILINE)
#: What uv says about them.
_REQUIRED = re.compile(rf"(?<!conclude that )you require ({_SPECIFIER}(?:(?: and|,|, and) {_SPECIFIER})*), we can")
_BEGUN = "(?:Processing|Collecting|Obtaining)"
_FAILURES = (
    re.compile(r"No matching distribution found for (.+?)(?:$| \(from )", re.MULTILINE),
    re.compile(rf"{_BEGUN} ([^\s@]+)(?!.*\n\s*{_BEGUN} ).*did not run successfully", re.DOTALL),
    re.compile(r"Could not find a version that satisfies the requirement (.+?) \(from"),
    re.compile(r"Invalid requirement: '?(.+?)'?(?:$|:| \()", re.MULTILINE),
    re.compile(r"Could not build wheels for (.+?),"),
    re.compile(r"Failed to build installable wheels for .* \((.+)\)"),
    re.compile(r"Could not install requirement (\S+) from"),
    re.compile(r"Package '(.+?)' requires a different Python"),
    re.compile(r"Because (\S+) was not found in the "),
    re.compile(r"Because there (?:is|are) no versions? of (\S+?),? and "),
    re.compile(r"Because all versions of (\S+) have no "),
    re.compile(r"Because only .* (?:is|are) available and you require ([^\s,]+)"),
    re.compile(r"Couldn't parse requirement in .*\n\s+(\S.*)\n\s+\^", re.DOTALL),
    re.compile(r"Distribution not found at: (\S+)"),
    re.compile(r"ERROR: (\S+) is not a supported wheel on this"),
    re.compile(r"A path \((\S+)\) dependency is incompatible"),
    re.compile(r"Failed to (?:download and )?build [`']([^`'@ ]+)"),
    re.compile(r"you require ([^\s,]+)"),
)
_BUILD = re.compile(
    r"[Ff]ailed to (?:download and )?build|build backend returned an error|Could not build wheels"
    r"|(?:wheel|editable) did not run successfully|metadata-generation-failed"
)
_OTHER_PYTHON = re.compile(
    r"has no wheels with|requires (?:a different )?Python|Python.* does not satisfy|is not a supported wheel on this"
    r"|is incompatible with the current (?:platform|Python)"
)
_UNKNOWN = re.compile(r"\(from versions: none\)|was not found in the|no versions of")
_NO_VERSION = re.compile(r"\(from versions: |there is no version of|available and you require")
_OPTION = re.compile(r"Expected `--hash`, found `\"(--[\w-]+)")
_CAUSE = r"\s+(?:cause|Caused by): "
_UNUSABLE_CACHE = re.compile(rf"(?:Could not acquire lock|Failed to initialize cache).*(?:\n{_CAUSE}(.+))+")
_FILE = r"\.(?:whl|zip|tar\.\w+)\b"
_UNREADABLE = (
    # The address of a requirement; an index that lacks a name answers 404 as well.
    re.compile(rf"Failed to fetch: `?(?P<url>\S+{_FILE}).*\n{_CAUSE}HTTP status.*?\(\d+ (?P<reason>[^)]+)\)"),
    re.compile(r"because of HTTP error \d+ \w+ Error: (?P<reason>.*?) for url: (?P<url>\S+)"),
    re.compile(rf"(?:Failed to fetch|requirements file): `?(?P<url>[^\s`]+)`?(?:\n{_CAUSE}(?P<reason>(?!.*\(404).+))+"),
    re.compile(r"An index(?: URL)? \((?P<url>\S+)\) (?P<reason>.+)"),
    re.compile(r"repository located at (?P<url>\S+) is (?P<reason>not a trusted or secure host)"),
    re.compile(r"due to an OSError: (?P<reason>(?P<url>)(?:HTTP|.*[Cc]onnection).+)"),
    re.compile(r"while fetching (?P<url>\S+)\n.*> (?P<reason>.+)"),  # by newer versions of pip
    re.compile(r"unable to access '(?P<url>[^']+)': (?P<reason>.+)"),  # by git
)
_UNREADABLE_IN_LOG = re.compile(r"Could not fetch URL (?P<url>\S+): (?:connection error: )?(?P<reason>(?!404).+) - ")
#: The words of the libraries that pip uses, around the address and the reason.
_RAW = re.compile(r"HTTP(?P<secure>S?)ConnectionPool\(host='(?P<host>[^']+)', port=(?P<port>\w+)\)")
#: What a build printed, which pip writes into its log only.
_OF_BUILD = re.compile(r"Running command (?!git)(?:(?!Running command).)*?\n\S+ +ERROR: .*? exited with", re.DOTALL)
_SEE = "see the output of the installer below"


def requirement_error(output: str, log: str = "", modules: Iterable[str] = ()) -> VenvError:
    """Say what is wrong with which requirement, or with the cache, by the output of uv or pip, and what to do.

    The log of pip has reasons that pip does not print. ``modules`` are those that the consumer imports.
    """
    # Searching takes the square of the length of a line, or of the output, and packages can print anything.
    output, log = _LONG_LINE.sub(r"\1", output)[-_MOST:], _LONG_LINE.sub(r"\1", log)
    if found := _UNUSABLE_CACHE.search(output):
        advice = "make it writable for this user, or set UV_CACHE_DIR to another directory"
        return VenvError(f"uv cannot use its cache: {found[1]}", advice, output=output)
    if found := _OF_BUILD.search(log):
        said = (line.partition(" ")[2] for line in found[0].splitlines()[1:-1])
        output += "".join(f"\n{line}" for line in said if line.startswith("  "))[-_MOST:]  # Others: of another pip.
    problem, advice = _of_all(output, log) or _of_one(output, log, modules)
    quoted = "\n".join(line for line in output.splitlines() if not line.startswith("WARNING: "))
    return RequirementError(problem, advice, output=quoted)


def _of_all(output: str, log: str) -> tuple[str, str] | None:
    """The problem of all requirements together, and the advice; None if the problem is one of them."""
    if _ANOTHER_VERSION_OF_US.search(output):
        running = version(DISTRIBUTION)
        problem = f"requirements.txt asks for another version of {DISTRIBUTION} than the running {running}"
        return problem, "remove the version: the environment always gets the running one"
    if found := _ANOTHER_PROMISE.search(output):
        problem = f"the requirement {found[1]!r} cannot be installed: {MISNOMER} is read as {MEANT} {version(MEANT)}"
        return problem, f"write {MEANT} instead, with one of its versions"
    if _WRONG_HASH.search(output):
        problem = "a package does not match its hash in requirements.txt"
        return problem, "find out why the package changed before you accept the new hash"
    if _NO_HASH.search(output):
        problem = "requirements.txt has a hash for some requirements, but not for all"
        return problem, f"add the missing hashes, and remove {DISTRIBUTION}, which is always installed"
    if names := _contradicting(output):
        return f"the requirements {names} contradict each other", f"loosen the versions in requirements.txt; {_SEE}"
    if found := _OPTION.search(output):
        problem = f"the requirements cannot be installed: uv does not support the option {found[1]} of a requirement"
        return problem, "remove it from requirements.txt, or set `installer` to pip"
    if reason := _unreadable(output, log):
        advice = "check the network, the proxy, and the address and its password, such as PIP_INDEX_URL"
        if "not a trusted" in reason:
            advice = (
                "write its address with https:, or trust it with PIP_TRUSTED_HOST, and check that there is such a host"
            )
        return f"the requirements cannot be installed: {reason}", advice
    return None


def _of_one(output: str, log: str, modules: Iterable[str]) -> tuple[str, str]:
    name = next((found[1].strip() for each in _FAILURES if (found := each.search(output))), "")
    problem = f"the requirement {name!r} cannot be installed" if name else "the requirements cannot be installed"
    advice, package = f"correct it in requirements.txt; {_SEE}" if name else _SEE, ""
    if _BUILD.search(output):
        problem += f": building {'it' if name else 'a package'} from its source failed"
        advice = (
            "choose a version that has a wheel for this Python, set `python` to one that it supports, or install what "
        )
        advice += f"the build lacks; {_SEE}"
        package = REQUIREMENT_OF.get(re.split(r"[^\w.-]", name, maxsplit=1)[0], "")
    elif _is_for_another_python(name, output, log):
        problem += ": its packages are for other Pythons or machines"
        advice = f"choose another version in requirements.txt, or set `python` to one that it supports; {_SEE}"
    elif _UNKNOWN.search(output):
        problem += ": no index has a package of this name"
        package = meant(name, modules)
    elif _NO_VERSION.search(output):
        problem += ": there is no such version"
    return problem, f"did you mean {package!r}? Correct it in requirements.txt" if package else advice


def _contradicting(output: str) -> str:
    found = _CONFLICT.search(output)
    if found:
        names = [requested or package for requested, package in _CONFLICTING.findall(output)]
    else:
        names = [name for required in _REQUIRED.findall(output) for name in re.split(r",? and |, ", required)]
    *others, last = sorted(set(names)) or [""]
    return f"{', '.join(others)} and {last}" if others else found[1] if found else ""


def _unreadable(output: str, log: str) -> str:
    """Say which index could not be read, and why; empty if that is not the reason."""
    found = next(filter(None, (each.search(output) for each in _UNREADABLE)), None)
    if not found and "No matching distribution found" in output:
        found = _UNREADABLE_IN_LOG.search(log)
        # Some indexes refuse (403) what they do not have; then another one may have said that it is unknown.
        found = None if found and found["reason"].startswith("403") and "404 Client Error" in log else found
    if not found:
        return ""
    url, reason = found["url"], re.sub(r" for url:? .*|\[Errno -?\d+\] ", "", found["reason"])
    if raw := _RAW.search(reason):
        url = url or f"http{raw['secure'].lower()}://{raw['host']}:{raw['port']}"
        # The reason is the last text in it, without what parentheses add.
        reason = re.split(r": |\] |['\"]", re.sub(r"\.? \([\w. ]+[=:][\w.]+\)", "", reason).rstrip("'\")"))[-1]
    parts = urlsplit(url)
    address = f" {parts.scheme}://{parts.netloc.rpartition('@')[2]}" if parts.scheme else url and f" {url}"
    is_file = "unable to access" in found[0] or re.search(_FILE, found[0])
    server = "server" if is_file else "package index"
    return f"the {server}{address} cannot be read: {reason}"


def _is_for_another_python(requirement: str, output: str, log: str) -> bool:
    name = re.sub(r"[-_.]+", "[-_.]+", re.split(r"[^\w.-]", requirement, maxsplit=1)[0])
    wanted = re.search(r"==\s*([\w.]+)", requirement)
    if "(from versions: " not in output:
        return bool(_OTHER_PYTHON.search(output))
    if not wanted and "(from versions: none)" not in output:
        return False
    number = re.escape(wanted[1]) if wanted else r"[^-/\s]+"
    skipped = rf"none of the wheel's tags .*/{name}-{number}-[^/]+\.whl"
    return bool(re.search(skipped, log, re.IGNORECASE) or re.search(rf"\b{number} Requires-Python", output))
