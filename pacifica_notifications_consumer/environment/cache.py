"""A cache of virtual environments, so that a consumer that was started before starts without installing anything.

    CACHE/<key>/lock                    locked by a process that looks for an environment of this key, or builds one
    CACHE/<key>/<build>/venv            an environment
    CACHE/<key>/<build>/in-use          locked (shared) by each process that uses the environment
    CACHE/<key>/<build>/contents.json   written last: the installed files, to detect a damaged environment

The locks are those of the operating system (``flock``), which releases them however a process ends. A virtual
environment cannot be moved, so it is built in its final place, and published by writing ``contents.json`` atomically.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import stat
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs

from ..errors import Cancelled, StateError, explained
from ..settings.converters import age_and, byte_count, checked, seconds, show_age, show_size
from ..system.account import Account
from ..system.files import make_private, open_private, replacing, try_lock, walk
from ..system.orphans import end_marked, mark_of
from ..system.processes import KILL_AFTER
from ..system.temporary import remove_tree
from .venv import Venv

log = logging.getLogger(__name__)

_CONTENTS = "contents.json"
_POLL = 0.1


@attrs.frozen(kw_only=True)
class CacheLimits:
    """Limits of the unused environments that are kept.

    Args:
        age: Seconds since the last use after which an environment is removed; None for no limit.
        size: Maximum total size of all environments in bytes, above which the least recently used ones are removed;
            None for no limit.
    """

    age: float | None = attrs.field(default=30 * 86400.0, validator=checked(seconds, none=True))
    size: int | None = attrs.field(default=20 << 30, validator=checked(byte_count, none=True))

    @classmethod
    def parse(cls, text: str) -> CacheLimits:
        """Parse an age such as ``30d``, a size such as ``20G``, or both separated by a comma.

        Raises:
            ValueError: The text is neither.
        """
        age, size = age_and(text, _with_unit, "an age such as 30d or 12h, a size such as 20G, or both, as in 30d,20G")
        return cls(age=age, size=size)

    def __str__(self) -> str:
        parts = (show_age(self.age) if self.age else "", show_size(self.size) if self.size else "")
        return ",".join(filter(None, parts))


def _with_unit(text: str) -> int:
    if text.isdecimal():
        raise ValueError("add a unit: 20G is a size, 20d an age")
    return byte_count(text)


@attrs.frozen(kw_only=True)
class CachedVenv:
    """An environment in the cache."""

    venv: Venv
    key: str  #: equal for equal consumers: the hash of everything that determines the content
    size: int  #: in bytes
    used_at: float  #: in seconds since 1970


class VenvCache:
    """A directory of environments, which many processes may use at the same time.

    Args:
        directory: The directory; created if missing.
        limits: The age and the size of the environments that are kept.
        run_as: The user that owns the environments, or its name; by default the user of this process.
    """

    def __init__(
        self, directory: str | os.PathLike[str], limits: CacheLimits | None = None, run_as: Account | str | None = None
    ) -> None:
        self._run_as = Account.of(run_as)
        self._directory = Path(directory).absolute()
        self._limits = limits or CacheLimits()

    @contextlib.contextmanager
    def environment(
        self, key: str, build: Callable[[Path], tuple[Venv, str]], cancel: threading.Event | None = None
    ) -> Iterator[Venv]:
        """Find an environment, or build it; no process removes it while the context lasts.

        Args:
            key: The hash of everything that determines its content.
            build: Builds an environment in a directory; returns it and the reason why it cannot be reused, or an empty
                string.
            cancel: Setting this event stops waiting for another process that builds the same environment.

        Raises:
            StateError: The directory cannot be written to.
            Cancelled: ``cancel`` was set.
        """
        with contextlib.ExitStack() as stack:
            problem = f"the cache of environments {self._directory} cannot be used"
            with explained(StateError, problem, "choose another directory for the cache with `venv_cache`, or none"):
                with self._looking(key, cancel) as directory:
                    venv = self._find(directory, stack) or self._make(directory, build, stack)
                self.prune()
            yield venv

    def kept(self) -> list[CachedVenv]:
        """The environments in the cache, the most recently used first."""
        found = [kept for build in self._builds() if (kept := _read(build)) is not None]
        return sorted(found, key=lambda kept: -kept.used_at)

    def prune(self, limits: CacheLimits | None = None) -> list[CachedVenv]:
        """Remove the environments that exceed the limits, and incomplete ones of processes that died.

        Args:
            limits: Limits that replace those of the cache.

        Returns:
            The removed environments, without the incomplete ones.
        """
        limits = limits or self._limits
        removed, total = [], 0
        for kept in self.kept():
            total += kept.size
            too_old = limits.age is not None and time.time() - kept.used_at > limits.age
            too_much = limits.size is not None and total > limits.size
            if (too_old or too_much) and self._remove(kept.venv.path.parent):
                removed.append(kept)
                total -= kept.size
        for build in self._builds():
            if not (build / _CONTENTS).exists():
                self._remove(build)
        return removed

    def _builds(self) -> list[Path]:
        """The directories of environments; others, in a directory that holds more than the cache, are not touched."""
        return [path.parent for path in self._directory.glob("*/*/in-use") if (path.parents[1] / "lock").is_file()]

    @contextlib.contextmanager
    def _looking(self, key: str, cancel: threading.Event | None) -> Iterator[Path]:
        directory = self._directory / key
        with contextlib.suppress(FileExistsError):
            make_private(self._directory)
        directory.mkdir(mode=0o700, exist_ok=True)
        seen = directory.lstat()
        if seen.st_uid != os.geteuid() or not stat.S_ISDIR(seen.st_mode) or seen.st_mode & 0o022:
            raise PermissionError(errno.EACCES, f"another user may change {directory}")
        self._run_as.admit(self._directory)
        self._run_as.admit(directory, advice="choose another directory for the cache with `venv_cache`")
        with open_private(directory / "lock") as lock:
            said = False
            while not try_lock(lock):
                if not said:
                    log.info("waiting for another process that builds the same environment")
                    said = True
                if (cancel or threading.Event()).wait(_POLL):
                    raise Cancelled("stopped while another process was building the environment")
            yield directory

    def _find(self, directory: Path, stack: contextlib.ExitStack) -> Venv | None:
        for build in directory.glob("*/"):
            if (kept := _read(build)) is None:
                continue
            if problem := _damage(build):
                log.warning("the cached environment %s is damaged and built again: %s", kept.venv.path, problem)
                (build / _CONTENTS).unlink()
                continue
            in_use = stack.enter_context(open_private(build / "in-use"))
            if try_lock(in_use, shared=True):
                os.utime(build / "in-use")
                log.info("using the environment %s", kept.venv.path)
                return kept.venv
        return None

    def _make(self, directory: Path, build: Callable[[Path], tuple[Venv, str]], stack: contextlib.ExitStack) -> Venv:
        home = directory / uuid.uuid4().hex[:12]
        home.mkdir(mode=0o700)
        stack.callback(_remove_unless_published, home)
        in_use = stack.enter_context(open_private(home / "in-use"))
        try_lock(in_use, shared=True)
        venv, reason = build(home)
        if reason := reason or _publish(home):
            log.warning("the environment is not kept in the cache: %s", reason)
        return venv

    def _remove(self, build: Path) -> bool:
        """Remove an environment unless a process uses it, builds it, or looks for it."""
        with contextlib.suppress(OSError), open_private(build.parent / "lock") as looking:
            if try_lock(looking):
                with open_private(build / "in-use") as in_use:
                    if try_lock(in_use):
                        # A command that was killed has left them, and they would write to it.
                        end_marked(mark_of(build), 0.0, self._run_as, most=KILL_AFTER)
                        (build / _CONTENTS).unlink(missing_ok=True)
                        remove_tree(build)
                        return True
        return False


def _remove_unless_published(build: Path) -> None:
    if not (build / _CONTENTS).exists():
        remove_tree(build)


def _read(build: Path) -> CachedVenv | None:
    try:
        size = int(json.loads((build / _CONTENTS).read_bytes())["size"])
        used_at = (build / "in-use").stat().st_mtime
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return CachedVenv(venv=Venv(build / "venv"), key=build.parent.name, size=size, used_at=used_at)


def _publish(build: Path) -> str:
    """Describe why an environment cannot be found again; empty if from now on it can be."""
    files, size = {}, 0
    try:
        for folder, _, entries in walk(build, PermissionError):
            # Not the compiled files, which the interpreter may rewrite at any time.
            is_installed = folder.startswith("venv/") and "__pycache__" not in folder.split("/")
            for entry in entries:
                found = entry.stat(follow_symlinks=False)
                size += found.st_size
                if is_installed and not entry.is_dir(follow_symlinks=False):
                    files[folder + entry.name] = [found.st_size, found.st_mtime_ns]
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return "its folders are nested too deeply"
    with replacing(build / _CONTENTS, sync=True) as file:
        file.write(json.dumps({"size": size, "files": files}).encode("ascii"))
    return ""


def _damage(build: Path) -> str:
    """Describe the damage of an environment; empty if it is intact."""
    try:
        files = json.loads((build / _CONTENTS).read_bytes())["files"]
        for path, (size, changed) in files.items():
            found = os.lstat(build / path)
            if (found.st_size, found.st_mtime_ns) != (size, changed):
                return f"{path} has changed"
    except FileNotFoundError as error:
        return f"{Path(error.filename).relative_to(build)} is missing"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"its {_CONTENTS} cannot be read: {error}"
    python = Venv(build / "venv").python
    return "" if python.exists() else f"its interpreter {python.resolve()} does not exist any more"
