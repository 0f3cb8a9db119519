"""VenvBuilder: builds a separate virtual environment for each consumer."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ..errors import ConfigurationError, InitScriptError, RequirementError, VenvError, explained
from ..settings.converters import check, existing_file, limit, path
from ..system.account import Account, has_given_up_new_privileges
from ..system.files import digest_tree, read_regular, regular, replacing, walk
from ..system.orphans import MARK_VARIABLE, mark_of
from ..system.periodic import Periodic
from ..system.processes import CompletedProgram, describe_status, run_captured, without_credentials
from ..system.temporary import remove_tree, temporary_directory
from .cache import CacheLimits, VenvCache
from .installer import Installer, Packages, find_installer, installer_environ, put_pip_into
from .installer_errors import requirement_error
from .interpreter import Interpreter
from .local_files import digest_local_files
from .lock_file import list_packages, lock_file
from .package_names import imported
from .requirements import Requirements
from .venv import Venv
from .wheel import DISTRIBUTION, MEANT, MISNOMER, build_misnomer, build_wheel, wheel_digest

log = logging.getLogger(__name__)

#: Seconds between two log lines about a program that takes long.
_STILL_SECONDS = 15.0
#: Characters of a program's output that are logged, with 100 for each line.
_MOST_SHOWN = 20_000_000
#: The file to which pip writes its reasons, in the directory for temporary files.
_PIP_LOG = "pip.log"


class VenvBuilder:
    """A context manager that builds a virtual environment and removes it, or takes it from a cache and keeps it there.

    ``with VenvBuilder(requirements=path) as venv: subprocess.run([venv.python, ...])``

    Args:
        python: The interpreter of the environment; by default the running one.
        directory: The working directory of ``init.sh`` and the installer, such as the extracted consumer; by default
            that of the process.
        requirements: A requirements file to install; this library is always installed.
        init_script: A script to run before the requirements are installed.
        installer: ``uv``, ``pip``, or ``auto`` for uv if it is available, else pip.
        cache: The directory of a cache (`venv_cache` in errors); by default the environment is removed at the end. All
            files of ``directory`` are hashed if there is an ``init_script``, or if a requirement is a local file.
        cache_limits: The age and the size of the environments that the cache keeps.
        timeout: Seconds for the script and for the installer (`setup_timeout` in errors); None for no limit.
        cancel: Setting this event stops the build with `Cancelled`.
        run_as: The user that runs all programs and owns the environment; by default that of this process.

    Raises:
        ConfigurationError: ``timeout`` or ``run_as`` is wrong. All other errors are raised on entry, also this one if
            ``python`` is not Python 3.11 or later, or the installer, the directory or a file is missing.
        VenvError: ``python`` cannot create environments.
        InitScriptError: ``init.sh`` exits with a status other than 0, or does not end in time.
        RequirementError: A requirement cannot be installed.
        StateError: The cache cannot be written to.
    """

    def __init__(
        self,
        *,
        python: str | os.PathLike[str] = sys.executable,
        directory: str | os.PathLike[str] | None = None,
        requirements: str | os.PathLike[str] | None = None,
        init_script: str | os.PathLike[str] | None = None,
        installer: str = "auto",
        cache: str | os.PathLike[str] | None = None,
        cache_limits: CacheLimits | None = None,
        timeout: float | None = 1800.0,
        cancel: threading.Event | None = None,
        run_as: Account | str | None = None,
    ) -> None:
        check(limit, none=True, timeout=timeout)
        check(path, none=True, python=python, directory=directory, cache=cache)
        self._python = os.fspath(python)
        # Make paths absolute, because programs run in other working directories.
        self._directory = Path.cwd() if directory is None else Path(directory).absolute()
        self._requirements = None if requirements is None else Path(requirements).absolute()
        self._init_script = None if init_script is None else Path(init_script).absolute()
        self._installer = installer
        self._run_as = Account.of(run_as)
        self._cache = None if cache is None else VenvCache(cache, cache_limits, self._run_as)
        self._timeout = timeout
        self._cancel = cancel
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Venv:
        if not self._directory.is_dir():
            raise ConfigurationError(f"`directory` ({self._directory}) is not a directory", "correct its path")
        check(existing_file, none=True, requirements=self._requirements, init_script=self._init_script)
        interpreter = Interpreter.probe(self._python, self._run_as, self._cancel)
        installer = find_installer(self._installer, interpreter)

        with self._run_as.acting():
            path, environ = self._requirements, self._run_as.environ(installing=True)
            requirements = Requirements.read(path, environ) if path else Requirements()
            if self._init_script is not None:
                self._init_script.chmod(0o700)  # Archives often lose the executable bit.
        with contextlib.ExitStack() as stack:
            if self._cache is None:
                home = stack.enter_context(temporary_directory("pacifica-venv-", self._run_as))
                venv = self._build(home, interpreter, installer, requirements)
            else:
                venv = stack.enter_context(self._cached(self._cache, interpreter, installer, requirements))
            self._stack = stack.pop_all()
        if any(venv.path.glob(f"lib/python*/site-packages/{MISNOMER}-*.dist-info")):
            log.warning(
                "the requirement %s was read as %s: no project has that name, so anybody could register it with "
                "harmful code; write %s instead",
                MISNOMER,
                MEANT,
                MEANT,
            )
        return venv

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _cached(
        self, cache: VenvCache, interpreter: Interpreter, installer: Installer, requirements: Requirements
    ) -> contextlib.AbstractContextManager[Venv]:
        problem, advice = f"the files of {self._directory} cannot be hashed for the cache", "let the user read them all"
        with self._run_as.acting(), explained(RequirementError, problem, advice):
            script = None if self._init_script is None else digest_tree(self._init_script.resolve())
            digest, unkept = digest_local_files(requirements, self._directory, has_script=script is not None)
        parts = [
            interpreter.build,
            [installer.name, installer.version],
            wheel_digest(),
            [line.text for line in requirements.lines],
            # What a script can do depends on its rights.
            script and [script, has_given_up_new_privileges()],
            digest,
            # These variables determine where packages come from.
            sorted(item for item in os.environ.items() if item[0].startswith(("PIP_", "UV_"))),
            # Users do not share environments, because each could change the environment of the others.
            [self._run_as.uid, os.geteuid()],
        ]
        key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]

        def build(home: Path) -> tuple[Venv, str]:
            before = self._files_of_directory()
            venv = self._build(home, interpreter, installer, requirements)
            if self._init_script and self._files_of_directory() != before:
                name = self._init_script.name
                return venv, f"{name} writes to the consumer's directory, which is a new one at each start"
            return venv, unkept

        return cache.environment(key, build, self._cancel)

    def _build(self, home: Path, interpreter: Interpreter, installer: Installer, requirements: Requirements) -> Venv:
        venv = Venv(home / "venv")
        wheel = build_wheel(home)
        # Installers do not query an index for a name that a constraint binds to a file. So neither the requirements nor
        # an init.sh can install a malicious package that was uploaded to an index under our name, or under `MISNOMER`.
        constraints = home / "constraints.txt"
        misnomer = build_misnomer(home)
        bound = {DISTRIBUTION: wheel, MISNOMER: misnomer}
        constraints.write_text("".join(f"{name} @ {path.as_uri()}\n" for name, path in bound.items()), encoding="utf-8")
        # A temporary directory for the installer, since some installers leave files there.
        temporary = home / "tmp"
        for folder in (venv.path, temporary):
            folder.mkdir(mode=0o700)
        for file in (wheel, misnomer, constraints):
            file.chmod(0o644)
        advice = "let `venv_cache`, or without it TMPDIR, name a directory that all users can reach"
        self._run_as.admit(home, venv.path, temporary, advice=advice)
        base = self._run_as.environ(installing=True)
        if not self._run_as.has_home():
            # uv and pip keep their caches in the home directory, which this user does not have.
            base = {**base, "UV_NO_CACHE": "1", "PIP_NO_CACHE_DIR": "1"}
        # So that the next start finds what a killed one has left, or the end of the job whose entry-point builds.
        mark = {MARK_VARIABLE: os.environ.get(MARK_VARIABLE) or mark_of(home)}
        environ = installer_environ(venv.environ(base), constraints) | mark
        with self._run_as.acting():
            self._create(venv, home, interpreter, {**base, **mark})
            if self._init_script is not None:
                if not put_pip_into(venv, interpreter):
                    log.warning(
                        "%s cannot call pip: neither %s nor the running Python provides it",
                        self._init_script.name,
                        interpreter.executable,
                    )
                self._run_init_script(self._init_script, environ)
            # The words of uv are recognized if it does not break its lines.
            environ |= {"TMPDIR": str(temporary), "PIP_LOG": str(temporary / _PIP_LOG), "COLUMNS": "9999"}
            self._install(venv, wheel, installer, environ, hashes=requirements.has_hashes)
            packages = list_packages(venv)
        remove_tree(temporary)
        with replacing(venv.lock) as lock:
            lock.write(lock_file(packages, interpreter, installer).encode())
        log.info("the environment contains %d packages", len(packages))
        return venv

    def _create(self, venv: Venv, home: Path, interpreter: Interpreter, environ: Mapping[str, str]) -> None:
        log.info("creating a virtual environment of Python %s", interpreter.version)
        command: list[str | Path] = [interpreter.executable, "-I", "-m", "venv", "--without-pip", venv.path]
        finished = self._run(command, environ, home, Path(interpreter.executable).name, lambda _: False)
        if finished.status or finished.timed_out:
            raise VenvError(
                f"{interpreter.executable} could not create a virtual environment",
                "install its module venv (on Debian the package python3-venv), or set `python` to another one",
                output=finished.output,
            )

    def _files_of_directory(self) -> dict[str, tuple[int, int]]:
        """Size and modification time of each file that ``init.sh`` might change; empty without ``init.sh``."""
        found = {}
        try:
            for folder, _, entries in walk(self._directory.resolve(), OSError) if self._init_script else ():
                for entry in entries:
                    with contextlib.suppress(OSError):  # A process of the script may still remove files.
                        if not entry.is_dir():
                            seen = entry.stat(follow_symlinks=False)
                            found[folder + entry.name] = seen.st_size, seen.st_mtime_ns
        except OSError:
            found[""] = 0, 0  # The script has nested folders too deeply: a change in any case.
        return found

    def _run_init_script(self, script: Path, environ: Mapping[str, str]) -> None:
        log.info("running %s", script.name)
        # Without a "#!" line the shell runs the script.
        with open(script, "rb", opener=regular) as file:
            first_line = file.readline(1024).rstrip(b"\n")
        command = [script] if first_line.startswith(b"#!") else [Path("/bin/sh"), script]
        advice = f"check its first line, {first_line.decode(errors='replace')!r}"
        with explained(InitScriptError, f"{script.name} cannot be started", advice):
            finished = self._run(command, environ, self._directory, script.name)
        if finished.timed_out:
            problem, advice = f"did not end within {self._timeout:g} seconds", "let it end, or raise `setup_timeout`"
        else:
            problem, advice = f"failed with {describe_status(finished.status)}", "see its output below"
        if finished.status:
            raise InitScriptError(f"{script.name} {problem}", advice, output=finished.output)

    def _install(
        self, venv: Venv, wheel: Path, installer: Installer, environ: Mapping[str, str], *, hashes: bool
    ) -> None:
        name = self._requirements.name if self._requirements else DISTRIBUTION
        log.info("installing %s with %s %s", name, installer.name, installer.version)
        given: list[str | Path] = [] if self._requirements is None else ["--requirement", self._requirements]
        if hashes:
            # If one requirement has a hash, installers demand a hash of every package of the same call, so the wheel of
            # this library is installed by a second call. The hashed packages come first, because the hash of a package
            # that is already installed would not be checked.
            self._call(installer, venv, given, environ, hashes=True)
            given = []
        self._call(installer, venv, [wheel, *given], environ)

    def _call(
        self, installer: Installer, venv: Venv, packages: Packages, environ: Mapping[str, str], *, hashes: bool = False
    ) -> None:
        command = installer.command(venv, packages, environ, hashes=hashes)
        advice = "let all users run it, or set `installer` to the other one"
        with explained(VenvError, f"the installer {command[0]} cannot be started", advice):
            finished = self._run(command, environ, self._directory, installer.name, installer.shown)
        if finished.timed_out:
            raise RequirementError(
                f"installing the requirements did not end within {self._timeout:g} seconds",
                "check the connection to the package index, or raise `setup_timeout`",
                output=finished.output,
            )
        if finished.status:
            said = without_credentials(read_regular(Path(environ["PIP_LOG"]), b"").decode("utf-8", "replace"))
            raise requirement_error(finished.output, said, imported(self._directory))

    def _run(
        self,
        command: Sequence[str | Path],
        environ: Mapping[str, str],
        cwd: Path,
        name: str,
        shown: Callable[[str], bool] = lambda _: True,
    ) -> CompletedProgram:
        """Run a program, and log its output under a name: the lines to be shown at level INFO, the others at DEBUG."""
        left = _MOST_SHOWN

        def show(line: str) -> None:
            nonlocal left
            if left < 0:
                return
            left -= 100 + len(line)
            if left < 0:
                log.warning("%s says very much; the rest of its output is not logged", name)
            log.log(logging.INFO if shown(line) else logging.DEBUG, "%s: %s", name, line)

        def reassure() -> None:  # Some programs print nothing for minutes.
            log.info("%s is still running after %.0f s", name, time.monotonic() - began)

        began, every = time.monotonic(), _STILL_SECONDS
        with Periodic(reassure, name="still running", interval=every, delay=every, daemon=True):
            return run_captured(
                command,
                environ=environ,
                cwd=cwd,
                timeout=self._timeout,
                on_line=show,
                cancel=self._cancel,
                run_as=self._run_as,
            )
