"""The user of the system as whom a consumer's own code runs: its ``init.sh``, its installer, its entry-points.

By default it is the user of this process, for whom nothing has to be done: `CURRENT_USER`. If it is another one, the
runner stays root. Where it works on files that this user may change meanwhile, it acts with the user's rights: a link
that the user puts there must not lead it to others' files.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from ..errors import ConfigurationError
from ..settings.option import PREFIX

#: The prefixes of the variables that are about the user who started the runner, or for the runner alone.
_OF_ANOTHER = (PREFIX, "SUDO_", "XDG_", "SSH_", "DBUS_", "MAIL")
_NOBODY = -1


@attrs.frozen(kw_only=True)
class Account:
    """A user of the system who is not root.

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
    def find(cls, name: str) -> Account:
        """Look up the user of a name, to run programs as that user.

        Raises:
            ConfigurationError: There is none, it is root, or this process may not run programs as that user.
        """
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            raise ConfigurationError(
                f"there is no user {name!r} on this machine", "correct `run_as`, or make one: useradd --system"
            ) from None
        if found.pw_uid == 0:
            raise ConfigurationError(f"{name} has all rights", "set `run_as` to a user with few")
        if os.geteuid() != 0:
            raise ConfigurationError(
                f"only root can run programs as {name}", "start it as root, or as that user and without `run_as`"
            )
        groups = os.getgrouplist(name, found.pw_gid)
        return cls(
            name=name,
            uid=found.pw_uid,
            gid=found.pw_gid,
            groups=tuple(groups),
            home=found.pw_dir,
            shell=found.pw_shell or "/bin/sh",
        )

    def has_home(self) -> bool:
        """Whether the user has a home directory, and may write to it."""
        # Tried, since os.access goes by the rights of the process.
        with self.acting(), contextlib.suppress(OSError):
            os.rmdir(tempfile.mkdtemp(dir=self.home))  # noqa: PTH106
            return True
        return False

    @contextlib.contextmanager
    def acting(self) -> Iterator[None]:
        """Have this thread reach files with this user's rights alone, and make files that belong to the user.

        So does a thread that it starts meanwhile, for as long as it lives. The process leaves its own supplementary
        groups for the user's.
        """
        if tuple(os.getgroups()) != self.groups:
            # Of the whole process: a thread has none of its own. As root it needs none.
            os.setgroups(self.groups)
        before = _act_as(self.uid, self.gid)
        try:
            yield
        finally:
            _act_as(*before)

    def popen_arguments(self) -> dict[str, Any]:
        """The arguments by which `subprocess.Popen` starts a program as this user."""
        return {"user": self.uid, "group": self.gid, "extra_groups": self.groups}

    def environ(self) -> Mapping[str, str]:
        """This process's variables for a program of this user.

        Left out are variables about another user, and those for the runner alone, secrets among them.
        """
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_OF_ANOTHER)}
        return kept | {"HOME": self.home, "USER": self.name, "LOGNAME": self.name, "SHELL": self.shell}

    def admit(self, place: Path, *own: Path, advice: str = "") -> None:
        """Let this user through a directory of ours.

        Args:
            place: The directory.
            own: Directories in it that become the user's, with all that is in them.
            advice: What to do if the user cannot reach it, or may change it; by default that is not checked.

        Raises:
            ConfigurationError: See `check_way`.
        """
        for directory in own:
            self.own(directory)
        mode = stat.S_IMODE(place.stat().st_mode)
        if mode & 0o111 != 0o111:
            # All users may go through it, but not list it.
            place.chmod(mode | 0o111)
        if advice:
            self.check_way(place, advice)

    def own(self, directory: Path) -> None:
        """Give this user a directory that lies in one of ours, with all that is in it.

        Files with several names keep their owner: one of the names may have been made here by another user.
        """
        if directory.lstat().st_uid == self.uid:
            return
        for _, folders, files, at in os.fwalk(directory):
            for name in (*folders, *files):
                seen = os.stat(name, dir_fd=at, follow_symlinks=False)
                if stat.S_ISDIR(seen.st_mode) or seen.st_nlink == 1:
                    os.chown(name, self.uid, self.gid, dir_fd=at, follow_symlinks=False)
        # Last of all: until then a directory of root is closed to the user.
        os.chown(directory, self.uid, self.gid, follow_symlinks=False)

    def check_way(self, path: Path, advice: str) -> None:
        """Check that this user can reach a directory or a file of ours, and cannot put anything else in its place.

        Args:
            path: Where it is.
            advice: What to do if not.

        Raises:
            ConfigurationError: A directory on the way is closed to the user, or the user may change it.
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
    """The user of this process, to whom all belongs already."""

    def has_home(self) -> bool:
        return True

    @contextlib.contextmanager
    def acting(self) -> Iterator[None]:
        yield

    def popen_arguments(self) -> dict[str, Any]:
        return {}

    def environ(self) -> Mapping[str, str]:
        return os.environ

    def admit(self, place: Path, *own: Path, advice: str = "") -> None:
        pass

    def check_way(self, path: Path, advice: str) -> None:
        pass


#: What stands for the user of this process; a number of -1 leaves an owner as it is.
CURRENT_USER: Account = _CurrentUser(name="", uid=-1, gid=-1, groups=(), home="", shell="")


def _act_as(uid: int, gid: int) -> tuple[int, int]:
    """Reach files as another user, in this thread alone; returns the numbers of the user and the group before.

    Raises:
        PermissionError: The system does not let us.
    """
    c = ctypes.CDLL(None)
    before = c.setfsuid(uid), c.setfsgid(gid)
    # They do not say whether they were allowed to.
    if (c.setfsuid(_NOBODY), c.setfsgid(_NOBODY)) != (uid, gid):
        raise PermissionError(f"this process may not act as the user {uid}")
    return before
