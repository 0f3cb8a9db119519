"""Account: the user that runs a consumer's own code, which is its ``init.sh``, its installer and its entry-points.

By default this is `CURRENT_USER`, the user of this process. For another user, the runner stays root, and accesses files
that this user may change with the user's rights, so that the user's links cannot lead it to files of other users.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import platform
import pwd
import re
import stat
import sys
import tempfile
from collections.abc import Iterator, Mapping
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import attrs

from ..errors import ConfigurationError
from .files import walk

log = logging.getLogger(__name__)

#: The variables of this process that programs of another user get; any other one may hold a secret.
_PASSED_ON = re.compile(
    r"PATH|LD_LIBRARY_PATH|LANG|LANGUAGE|LC_[A-Z]+|TZ|TZDIR|TMPDIR|KRB5\w*|SSL_CERT_(FILE|DIR)|(REQUESTS|CURL)_CA_BUNDLE"
    r"|(?i:https?|all|no)_(proxy|PROXY)"
)
_CREDENTIALS = re.compile(r"^(\w+://)?.*@")
#: An invalid number, with which setfsuid and setfsgid only return the current one.
_INVALID = -1
_PR_SET_NO_NEW_PRIVS, _PR_GET_NO_NEW_PRIVS = 38, 39
#: The number of the system call, which the C library does not have, on each kind of processor.
_KEYCTL = {"x86_64": 250, "aarch64": 219, "riscv64": 219, "ppc64le": 271, "s390x": 280}
_JOIN_SESSION_KEYRING = 1


@attrs.frozen(kw_only=True)
class Account:
    """A user of the system other than root.

    Args:
        name: The user's name.
        uid: The user's number.
        gid: The number of the user's main group.
        groups: The numbers of all groups of the user.
        home: The home directory, which may be missing.
        shell: The login shell.
    """

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str
    shell: str

    @classmethod
    def of(cls, run_as: Account | str | None) -> Account:
        """The user that an argument ``run_as`` means; a name as `find`, and None for the user of this process."""
        return run_as if isinstance(run_as, Account) else CURRENT_USER if run_as is None else cls.find(run_as)

    @classmethod
    def find(cls, name: str) -> Account:
        """Look up a user by name, to run programs as that user.

        Raises:
            ConfigurationError: The user does not exist or is root, or this process may not run programs as that user.
        """
        if sys.platform != "linux":
            raise ConfigurationError("only Linux can run programs as another user", "leave out `run_as`")
        try:
            found = pwd.getpwnam(name)
        except (KeyError, TypeError, ValueError):
            raise ConfigurationError(
                f"the user {name!r} does not exist on this machine", "correct `run_as`, or make one: useradd --system"
            ) from None
        if found.pw_uid == 0:
            raise ConfigurationError(f"{name} has all rights", "set `run_as` to a user with few")
        if os.geteuid() != 0:
            raise ConfigurationError(
                f"only root can run programs as {name}", "start it as root, or as that user and without `run_as`"
            )
        return cls(
            name=name,
            uid=found.pw_uid,
            gid=found.pw_gid,
            groups=tuple(os.getgrouplist(name, found.pw_gid)),
            home=found.pw_dir,
            shell=found.pw_shell or "/bin/sh",
        )

    def has_home(self) -> bool:
        """Whether the user has a home directory, and may write to it."""
        # Try to write, because os.access checks the rights of the process.
        with self.acting(), contextlib.suppress(OSError):
            os.rmdir(tempfile.mkdtemp(dir=self.home))  # noqa: PTH106
            return True
        return False

    @contextlib.contextmanager
    def acting(self) -> Iterator[None]:
        """Let this thread access files with the rights of this user only, and create files that the user owns.

        A thread that is started in the context keeps these rights; the whole process gets the user's groups.
        """
        if tuple(os.getgroups()) != self.groups:
            # The groups of the whole process, because threads do not have their own. Root does not need any.
            os.setgroups(self.groups)
        if _OWN_IMPORTS not in sys.meta_path:
            sys.meta_path.insert(0, _OWN_IMPORTS)
        with _acting_as(self.uid, self.gid):
            yield

    def popen_arguments(self) -> dict[str, Any]:
        """The arguments of `subprocess.Popen` to start a program as this user."""
        return {"user": self.uid, "group": self.gid, "extra_groups": self.groups}

    def environ(self, *, installing: bool = False) -> Mapping[str, str]:
        """The environment variables for a program of this user: some of this process, and those of the account.

        Only those for ``installing`` may hold passwords: for proxies, and for indexes in the settings of pip and uv.
        """
        also = ("PIP_", "UV_") if installing else ()
        kept = {key: value for key, value in os.environ.items() if _PASSED_ON.fullmatch(key) or key.startswith(also)}
        if not installing:
            kept |= {key: _CREDENTIALS.sub(r"\1", kept[key]) for key in kept if key.lower().endswith("_proxy")}
        return kept | {"HOME": self.home, "USER": self.name, "LOGNAME": self.name, "SHELL": self.shell}

    def admit(self, parent: Path, *own: Path, advice: str = "") -> None:
        """Let this user pass through a directory of ours, and own some directories in it.

        With an ``advice``, the way to it is checked, see `check_way`.
        """
        for directory in own:
            self.own(directory)
        mode = stat.S_IMODE(parent.stat().st_mode)
        if mode & 0o111 != 0o111:
            # Let all users pass through it, but not list it.
            parent.chmod(mode | 0o111)
        if advice:
            self.check_way(parent, advice)

    def own(self, directory: Path) -> None:
        """Change the owner of a directory and of all that it contains to this user.

        Files with several hard links keep their owner, because another user may have created a link to a foreign file.
        """
        if directory.lstat().st_uid == self.uid:
            return
        for _, at, entries in walk(directory):
            for entry in entries:
                seen = os.stat(entry.name, dir_fd=at, follow_symlinks=False)
                if stat.S_ISDIR(seen.st_mode) or seen.st_nlink == 1:
                    os.chown(entry.name, self.uid, self.gid, dir_fd=at, follow_symlinks=False)
        # The directory itself last: until then the user cannot change it.
        os.chown(directory, self.uid, self.gid, follow_symlinks=False)

    def check_way(self, path: Path, advice: str) -> None:
        """Check that this user can reach a directory or a file of ours, and cannot replace it.

        Raises:
            ConfigurationError: The user may not enter a directory of the path, or may change one.
        """
        with self.acting():
            for part in (*reversed(path.parents), path):
                try:
                    seen = part.stat()
                except PermissionError:
                    raise ConfigurationError(
                        f"the user {self.name} cannot reach {path}: {part.parent} is closed to that user", advice
                    ) from None
                if self._may_change(seen):
                    raise ConfigurationError(
                        f"the user {self.name} must not be able to replace {path}, but may change {part}",
                        f"make it root's and writable to root alone (chown -R), or {advice}",
                    )

    def _may_change(self, seen: os.stat_result) -> bool:
        # In a directory like /tmp (sticky), other users cannot replace a file of ours.
        by_others = 0 if seen.st_mode & stat.S_ISVTX else seen.st_mode
        by_group = by_others & stat.S_IWGRP and seen.st_gid in (self.gid, *self.groups)
        return seen.st_uid == self.uid or bool(by_group or by_others & stat.S_IWOTH)


class _CurrentUser(Account):
    """The user of this process, which needs no changes."""

    def has_home(self) -> bool:
        return True

    @contextlib.contextmanager
    def acting(self) -> Iterator[None]:
        yield

    def popen_arguments(self) -> dict[str, Any]:
        return {}

    def environ(self, **_: bool) -> Mapping[str, str]:
        return os.environ

    def admit(self, parent: Path, *own: Path, advice: str = "") -> None:
        pass

    def check_way(self, path: Path, advice: str) -> None:
        pass


#: The user of this process; the number -1 leaves an owner unchanged.
CURRENT_USER: Account = _CurrentUser(name="", uid=-1, gid=-1, groups=(), home="", shell="")


def leave_session_keyring() -> None:
    """Give this thread, and what it starts, an empty keyring: programs of another user could read root's otherwise."""
    if sys.platform == "linux" and (keyctl := _KEYCTL.get(platform.machine())):
        ctypes.CDLL(None).syscall(keyctl, _JOIN_SESSION_KEYRING, None)


def give_up_new_privileges() -> None:
    """Keep this process and its programs from gaining rights, as through ``sudo``; permanent, and only on Linux."""
    if sys.platform == "linux" and ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        log.warning("new privileges cannot be given up: %s", os.strerror(ctypes.get_errno()))


def has_given_up_new_privileges() -> bool:
    """Whether this process has called `give_up_new_privileges`, or inherits that."""
    return sys.platform == "linux" and bool(ctypes.CDLL(None).prctl(_PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0))


class _OwnImports(MetaPathFinder):
    """Imports modules with the rights of this process, also in a thread that acts as another user.

    That user may be unable to read this Python, and much imports a module when it is first used: a codec, for example.
    """

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        own = os.geteuid(), os.getegid()
        if ctypes.CDLL(None).setfsuid(_INVALID) == own[0]:
            return None
        with _acting_as(*own):
            finders = (finder for finder in sys.meta_path if finder is not self)
            spec = next(filter(None, (finder.find_spec(name, path, target) for finder in finders)), None)
        if spec and not isinstance(spec.loader, type):  # Classes load modules that are not in files.
            for method in ("create_module", "exec_module"):
                if hasattr(spec.loader, method):
                    # A generator's context manager is a decorator, too.
                    setattr(spec.loader, method, _acting_as(*own)(getattr(spec.loader, method)))
        return spec


_OWN_IMPORTS = _OwnImports()


@contextlib.contextmanager
def _acting_as(uid: int, gid: int) -> Iterator[None]:
    """Access files as another user, in this thread only."""
    c = ctypes.CDLL(None)
    before = c.setfsuid(uid), c.setfsgid(gid)
    try:
        # The functions do not report failures.
        if (c.setfsuid(_INVALID), c.setfsgid(_INVALID)) != (uid, gid):
            raise PermissionError(f"this process may not act as the user {uid}")
        yield
    finally:
        c.setfsuid(before[0])
        c.setfsgid(before[1])
