"""Another user of the system, as whom a consumer's own code runs: its ``init.sh``, its installer, its entry-points.

The runner stays root. Where it works on files that this user may change meanwhile, it acts with the user's rights, or a
link that the user puts there would lead it to others' files.
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

#: How those variables begin that are about whoever started the runner, or for the runner alone.
_OF_ANOTHER = (PREFIX, "SUDO_", "XDG_", "SSH_", "DBUS_", "MAIL")
_NOBODY = -1


@attrs.frozen(kw_only=True)
class Account:
    """A user of the system who is not root.

    Args:
        name: What he is called.
        uid: His number.
        gid: His group's number.
        groups: The numbers of all groups that he belongs to.
        home: His home directory, which may be missing.
        shell: His shell.
    """

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str
    shell: str

    @classmethod
    def find(cls, name: str) -> Account:
        """Look a user up, to run programs as him.

        Raises:
            ConfigurationError: There is none of this name, he is root, or this process may not run programs as him.
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
        """Whether he has a home directory that he can write to."""
        # Tried, since os.access goes by the rights of the process.
        with self.acting(), contextlib.suppress(OSError):
            os.rmdir(tempfile.mkdtemp(dir=self.home))  # noqa: PTH106
            return True
        return False

    @contextlib.contextmanager
    def acting(self) -> Iterator[None]:
        """Have this thread reach files with this user's rights alone, and make files that are his.

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

    def let_through(self, directory: Path) -> None:
        """Let all users go through a directory of ours; what is in it, they do not get to know."""
        mode = stat.S_IMODE(directory.stat().st_mode)
        if mode & 0o111 != 0o111:
            directory.chmod(mode | 0o111)

    def own(self, directory: Path) -> None:
        """Make a directory that stands in one of ours this user's, with all that is in it.

        Files with several names stay whose they are: another user may have given them one here.
        """
        if directory.lstat().st_uid == self.uid:
            return
        for _, folders, files, at in os.fwalk(directory):
            for name in (*folders, *files):
                seen = os.stat(name, dir_fd=at, follow_symlinks=False)
                if stat.S_ISDIR(seen.st_mode) or seen.st_nlink == 1:
                    os.chown(name, self.uid, self.gid, dir_fd=at, follow_symlinks=False)
        # Last of all: what was root's is closed to him until now.
        os.chown(directory, self.uid, self.gid, follow_symlinks=False)

    def check_way(self, path: Path, advice: str) -> None:
        """Insist that this user can reach a directory or a file of ours, and put nothing else in its place.

        Args:
            path: Where it is.
            advice: What to do if not.

        Raises:
            ConfigurationError: A directory on the way is closed to him, or may be changed by him.
        """
        with self.acting():
            for part in (*reversed(path.parents), path):
                try:
                    seen = part.stat()
                except PermissionError:
                    raise ConfigurationError(
                        f"the user {self.name} cannot reach {path}: {part.parent} is closed to him", advice
                    ) from None
                if self._may_change(seen):
                    raise ConfigurationError(
                        f"the user {self.name}, who is not to touch {path}, may change {part}",
                        f"make it root's and writable to root alone (chown -R), or {advice}",
                    )

    def _may_change(self, seen: os.stat_result) -> bool:
        # In one like /tmp nobody can put something in the place of what is ours.
        by_others = 0 if seen.st_mode & stat.S_ISVTX else seen.st_mode
        by_group = by_others & stat.S_IWGRP and seen.st_gid in (self.gid, *self.groups)
        return seen.st_uid == self.uid or bool(by_group or by_others & stat.S_IWOTH)


def popen_as(account: Account | None) -> dict[str, Any]:
    """What `subprocess.Popen` is told to start a program as a user; with None, as this process's."""
    return {"user": account.uid, "group": account.gid, "extra_groups": account.groups} if account else {}


def environ_of(account: Account | None) -> Mapping[str, str]:
    """This process's variables as a program finds them that runs as a user.

    What is about another one is left out, and what is for the runner alone, secrets among it.
    """
    if account is None:
        return os.environ
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_OF_ANOTHER)}
    return kept | {"HOME": account.home, "USER": account.name, "LOGNAME": account.name, "SHELL": account.shell}


def acting_as(account: Account | None) -> contextlib.AbstractContextManager[None]:
    """As `Account.acting`; with None, this process's user is who he is."""
    return account.acting() if account else contextlib.nullcontext()


def _act_as(uid: int, gid: int) -> tuple[int, int]:
    """Reach files as another user, in this thread alone; returns who did so before.

    Raises:
        PermissionError: The system does not let us.
    """
    c = ctypes.CDLL(None)
    before = c.setfsuid(uid), c.setfsgid(gid)
    # They do not say whether they were allowed to.
    if (c.setfsuid(_NOBODY), c.setfsgid(_NOBODY)) != (uid, gid):
        raise PermissionError(f"this process may not act as the user {uid}")
    return before
