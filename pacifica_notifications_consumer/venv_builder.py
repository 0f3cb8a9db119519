"""VenvBuilder: a virtual environment of its own for each consumer."""

from __future__ import annotations

import contextlib
import difflib
import json
import logging
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import requires, version
from pathlib import Path

from .errors import ConfigurationError, InitScriptError, RequirementError, VenvError
from .processes import Finished, describe_status, run_captured
from .temporary import temporary_directory
from .venv import Venv
from .wheel import DISTRIBUTION, build_wheel

log = logging.getLogger(__name__)

#: Settings of pip that would have it install into another place than the environment.
_ELSEWHERE = frozenset({"PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER"})
_OLDEST_PYTHON = (3, 11)
_PROBE = "import json, sys; print(json.dumps([sys.version_info[:2], sys.version.split()[0]]))"
_PROBE_SECONDS = 30.0


class VenvBuilder:
    """Creates a virtual environment, fills it, and removes it.

    ``with VenvBuilder(requirements=path) as venv: venv.python`` does all of that; `create` and `fill` are its parts.

    Args:
        python: The interpreter to make it of; by default the running one.
        directory: The working directory of ``init.sh``, such as the extracted consumer; by default that of the process.
        requirements: A requirements file to install; this library is installed in any case.
        init_script: A script to run before that.
        timeout: Seconds that the script, and the installer, may take each; None for no limit.
        cancel: When it is set, what is going on is stopped, with `Cancelled`.
    """

    def __init__(
        self,
        *,
        python: str | os.PathLike[str] = sys.executable,
        directory: Path | None = None,
        requirements: Path | None = None,
        init_script: Path | None = None,
        timeout: float | None = 1800.0,
        cancel: threading.Event | None = None,
    ) -> None:
        # A path must hold in any working directory; a bare name is looked up on PATH.
        self._python = str(Path(python).absolute()) if os.sep in os.fspath(python) else os.fspath(python)
        self._directory = directory or Path.cwd()
        self._requirements = requirements
        self._init_script = init_script
        self._timeout = timeout
        self._cancel = cancel
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Venv:
        with contextlib.ExitStack() as stack:
            venv = stack.enter_context(self.create())
            self.fill(venv)
            self._stack = stack.pop_all()
        return venv

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @contextlib.contextmanager
    def create(self) -> Iterator[Venv]:
        """Create the environment with nothing but pip in it; it is removed with the context.

        Raises:
            ConfigurationError: ``python`` is no Python 3.11 or later.
            VenvError: It cannot make environments.
        """
        version = probe_python(self._python)
        with temporary_directory("pacifica-venv-") as home:
            venv = Venv(home / "venv")
            log.info("creating a virtual environment of Python %s", version)
            finished = self._run([self._python, "-I", "-m", "venv", venv.path], os.environ, home)
            if finished.status or finished.timed_out:
                raise VenvError(
                    f"{self._python} could not create a virtual environment",
                    "install its module venv (on Debian the package python3-venv), or name another --python",
                    output=finished.output,
                )
            yield venv

    def fill(self, venv: Venv) -> None:
        """Run ``init.sh`` inside the environment, then install this library, as it runs here, and the requirements.

        Raises:
            InitScriptError: ``init.sh`` exits with another status than 0, or does not end in time.
            RequirementError: A requirement cannot be had.
        """
        wheel = build_wheel(venv.path.parent)
        # pip asks no index for a name that a constraint binds to a file. So neither the requirements nor a pip that
        # init.sh calls can get a package from elsewhere that somebody planted under our name.
        constraints = venv.path.parent / "constraints.txt"
        constraints.write_text(f"{DISTRIBUTION} @ {wheel.as_uri()}\n", encoding="utf-8")
        environ = {name: value for name, value in venv.environ().items() if name not in _ELSEWHERE}
        environ["PIP_CONSTRAINT"] = " ".join(filter(None, [environ.get("PIP_CONSTRAINT"), constraints.as_uri()]))
        if self._init_script is not None:
            self._run_init_script(self._init_script, environ)
        self._install(venv, wheel, environ)

    def _run_init_script(self, script: Path, environ: Mapping[str, str]) -> None:
        log.info("running %s", script.name)
        # Archives often lose the right to execute; the first line says what runs it, else it is the shell.
        script.chmod(0o700)
        first_line = script.read_bytes().split(b"\n", 1)[0]
        command = [script] if first_line.startswith(b"#!") else [Path("/bin/sh"), script]
        try:
            finished = self._run(command, environ, self._directory, script.name)
        except OSError as error:
            raise InitScriptError(
                f"{script.name} cannot be started: {error.strerror}",
                f"check its first line, {first_line.decode(errors='replace')!r}",
            ) from error
        if finished.timed_out:
            raise InitScriptError(
                f"{script.name} did not end within {self._timeout:g} seconds",
                "let it end, or raise --setup-timeout",
                output=finished.output,
            )
        if finished.status:
            raise InitScriptError(
                f"{script.name} failed with {describe_status(finished.status)}",
                "what it printed stands below",
                output=finished.output,
            )

    def _install(self, venv: Venv, wheel: Path, environ: Mapping[str, str]) -> None:
        command: list[str | Path] = [venv.python, "-m", "pip", "install"]
        command += ["--no-input", "--disable-pip-version-check", "--progress-bar", "off"]
        log.info("installing %s", self._requirements.name if self._requirements else DISTRIBUTION)
        if self._requirements is None:
            self._pip([*command, wheel], environ)
        elif b"--hash=" in self._requirements.read_bytes():
            # In one go pip would want a hash of the wheel and of all that it needs, too. What has a hash goes first:
            # of a package that is there already, pip would not check it.
            self._pip([*command, "--requirement", self._requirements], environ)
            self._pip([*command, wheel], environ)
        else:
            self._pip([*command, wheel, "--requirement", self._requirements], environ)

    def _pip(self, command: Sequence[str | Path], environ: Mapping[str, str]) -> None:
        finished = self._run(command, environ, self._directory)
        if finished.timed_out:
            raise RequirementError(
                f"installing the requirements did not end within {self._timeout:g} seconds",
                "check the connection to the package index, or raise --setup-timeout",
                output=finished.output,
            )
        if finished.status:
            raise _requirement_error(finished.output)

    def _run(
        self, command: Sequence[str | Path], environ: Mapping[str, str], cwd: Path, shown_as: str | None = None
    ) -> Finished:
        """Run a program; what it prints is shown under a name, or logged for debugging only."""
        level, prefix = (logging.INFO, f"{shown_as}: ") if shown_as else (logging.DEBUG, "")
        return run_captured(
            command,
            environ=environ,
            cwd=cwd,
            timeout=self._timeout,
            on_line=lambda line: log.log(level, "%s%s", prefix, line),
            cancel=self._cancel,
        )


def probe_python(python: str) -> str:
    """Return the version of an interpreter.

    Raises:
        ConfigurationError: It is no Python, or older than 3.11.
    """
    try:
        answer = subprocess.run(
            [python, "-I", "-c", _PROBE],
            capture_output=True,
            timeout=_PROBE_SECONDS,
            check=True,
            stdin=subprocess.DEVNULL,
        )
        series, version = json.loads(answer.stdout)
    except (OSError, subprocess.SubprocessError, ValueError, TypeError) as error:
        reason = getattr(error, "strerror", None) or "it does not answer as a Python does"
        raise ConfigurationError(f"{python} is no usable Python: {reason}", "correct --python") from error
    if tuple(series) < _OLDEST_PYTHON:
        raise ConfigurationError(f"{python} is Python {version}", "name one of version 3.11 or later with --python")
    return str(version)


def _requirement_error(output: str) -> RequirementError:
    """Find in pip's words which requirement it is about, and what may be meant."""
    lines = [line for line in output.splitlines() if not line.startswith("WARNING: ")]
    errors = "\n".join(line for line in lines if "error" in line.lower()) or "\n".join(lines[-20:])
    problem, advice = "the requirements cannot be installed", "what the installer said stands below"
    if _ANOTHER_VERSION_OF_US.search(output):
        running = version(DISTRIBUTION)
        problem = f"requirements.txt asks for another version of {DISTRIBUTION} than the running {running}"
        advice = "leave its version out: the environment always gets the running one"
    elif "DO NOT MATCH THE HASHES" in output:
        problem = "a package is not the one whose hash stands in requirements.txt"
        advice = "find out why it changed before you take over the new hash"
    elif "Hashes are required" in output:
        problem = "requirements.txt has a hash for some requirements, but not for all"
        advice = f"add the others, and leave out {DISTRIBUTION}, which the environment gets in any case"
    elif found := _CONFLICT.search(errors):
        problem = f"the requirements {found[1]} contradict each other"
        advice = "loosen the versions in requirements.txt; what the installer said stands below"
    elif name := next((found[1].strip() for each in _FAILURES if (found := each.search(errors))), None):
        problem = f"the requirement {name!r} cannot be installed"
        advice = _suggestion(name) or "correct it in requirements.txt; what the installer said stands below"
    return RequirementError(problem, advice, output="\n".join(lines))


_ANOTHER_VERSION_OF_US = re.compile(
    r"The user requested pacifica[-_.]+notifications[-_.]+consumer *[=<>!~]", re.IGNORECASE
)
_CONFLICT = re.compile(r"Cannot install (.+) because these package versions have conflicting dependencies")
_FAILURES = (
    re.compile(r"No matching distribution found for (.+)"),
    re.compile(r"Could not find a version that satisfies the requirement (.+?) \(from"),
    re.compile(r"Invalid requirement: '?(.+?)'?(?:$|:| \()", re.MULTILINE),
    re.compile(r"Could not build wheels for (.+?),"),
    re.compile(r"Failed to build installable wheels for .* \((.+)\)"),
)


def _suggestion(requirement: str) -> str:
    """Name a package that consumers commonly use and whose name is close."""
    known = [DISTRIBUTION, *(re.split(r"[^\w.-]", each, maxsplit=1)[0] for each in requires(DISTRIBUTION) or ())]
    name = re.split(r"[^\w.-]", requirement, maxsplit=1)[0].lower()
    close = [match for match in difflib.get_close_matches(name, known, n=1) if match != name]
    return f"did you mean {close[0]!r}? Correct it in requirements.txt" if close else ""
