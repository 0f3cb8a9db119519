"""Account: programs run as another user, and the user's links do not lead the runner to files of other users."""

from __future__ import annotations

import codecs
import importlib
import os
import pwd
import resource
import shutil
import stat
import subprocess
import sys
import threading
from pathlib import Path

import attrs
import pytest

from pacifica_notifications_consumer.engines.local import LocalEngine
from pacifica_notifications_consumer.environment.venv import Venv
from pacifica_notifications_consumer.errors import ConfigurationError
from pacifica_notifications_consumer.jobs.directory import JobDirectory, StateDirectory
from pacifica_notifications_consumer.jobs.files import read_note
from pacifica_notifications_consumer.queue.job_runner import JobRunner
from pacifica_notifications_consumer.settings.services import Services
from pacifica_notifications_consumer.system.account import CURRENT_USER, Account
from tests.support.machine.other_user import as_root
from tests.support.machine.trees import LONG, nest
from tests.support.machine.waiting import DEADLINE

NOBODY = "nobody"
HE, HIS_GROUP = pwd.getpwnam(NOBODY)[2:4]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux can run programs as another user")


@pytest.fixture
def account() -> Account:
    return Account.find(NOBODY)


def test_no_such_user() -> None:
    """An unknown name is an error."""
    with pytest.raises(ConfigurationError, match="the user 'nobody-at-all' does not exist on this machine") as caught:
        Account.find("nobody-at-all")
    assert "useradd" in caught.value.advice


def test_root_is_no_other_user() -> None:
    """Root is refused, because it has all rights."""
    with pytest.raises(ConfigurationError, match="root has all rights"):
        Account.find("root")


def test_only_root_can_be_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is not root gets an error at once."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ConfigurationError, match="only root can run programs as nobody"):
        Account.find(NOBODY)


@as_root
def test_found(account: Account) -> None:
    """An account contains the system's data about the user."""
    known = pwd.getpwnam(NOBODY)
    assert (account.uid, account.gid, account.home) == (known.pw_uid, known.pw_gid, known.pw_dir)
    assert account.groups == tuple(os.getgrouplist(NOBODY, known.pw_gid))


@as_root
def test_home(account: Account, place: Path) -> None:
    """A user has a home only if the directory exists and belongs to the user."""
    (place / "home").mkdir(mode=0o700)
    mine = attrs.evolve(account, home=str(place / "home"))
    assert not attrs.evolve(account, home=str(place / "missing")).has_home()
    assert not mine.has_home()
    mine.own(place / "home")
    assert mine.has_home()
    assert list((place / "home").iterdir()) == []


@as_root
def test_programs_are_started_as_the_user(account: Account) -> None:
    """A program runs with the user's groups, and without those of this process."""
    answer = subprocess.run(
        ["/bin/sh", "-c", "id -u; id -g; id -G"],
        capture_output=True,
        check=True,
        text=True,
        **account.popen_arguments(),
    )
    assert answer.stdout.split() == [str(account.uid), str(account.gid), *map(str, account.groups)]


@as_root
def test_variables(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs of the user get named variables only, and secrets of proxies and indexes only for an installation."""
    named = {"PATH": "/bin", "LANG": "C.UTF-8", "LC_ALL": "C", "TZ": "UTC", "SSL_CERT_FILE": "/x", "no_proxy": "a,b"}
    secret = {"AWS_SECRET_ACCESS_KEY": "x", "SUDO_USER": "x", "XDG_RUNTIME_DIR": "x", "SSH_AUTH_SOCK": "x", "path": "x"}
    secret |= {"PACIFICA_PASSWORD": "x", "LD_PRELOAD": "x", "PYTHONPATH": "x", "MY_LC_ALL": "x", "BASH_ENV": "x"}
    index = {"UV_INDEX_LAB_PASSWORD": "canary", "PIP_INDEX_URL": "http://a:canary@x"}
    proxies = {"HTTPS_PROXY": "http://a:canary@:3128/", "all_proxy": "a:canary@b:1", "http_proxy": "http://x:3128"}
    for name in os.environ:
        monkeypatch.delenv(name)
    for name, value in (named | secret | index | proxies).items():
        monkeypatch.setenv(name, value)
    ours = {"HOME": account.home, "USER": NOBODY, "LOGNAME": NOBODY, "SHELL": account.shell}
    without = {"HTTPS_PROXY": "http://:3128/", "all_proxy": "b:1", "http_proxy": "http://x:3128"}
    assert account.environ() == named | without | ours
    assert account.environ(installing=True) == named | proxies | index | ours
    assert CURRENT_USER.environ() is os.environ


@as_root
def test_acting(account: Account, place: Path) -> None:
    """Files are created as the user's, closed files cannot be read, and the thread gets its rights back afterwards."""
    secret = place / "secret"
    secret.write_text("x")
    secret.chmod(0o600)
    (place / "open").mkdir()
    (place / "open").chmod(0o777)
    with account.acting():
        (place / "open" / "his").touch()
        with pytest.raises(PermissionError):
            secret.read_text()
        with account.acting():
            pass
        with pytest.raises(PermissionError):
            secret.read_text()
    assert (place / "open" / "his").stat().st_uid == account.uid
    assert secret.read_text() == "x"
    (place / "ours").touch()
    assert (place / "ours").stat().st_uid == 0


@as_root
def test_acting_is_this_threads_business(account: Account, place: Path) -> None:
    """Other threads keep their rights, except threads that are started in the context."""
    secret = place / "secret"
    secret.write_text("x")
    secret.chmod(0o600)
    found: list[str] = []
    acting = threading.Event()

    def read() -> None:
        assert acting.wait(DEADLINE)
        found.append(secret.read_text())

    thread = threading.Thread(target=read)
    thread.start()
    with account.acting():
        acting.set()
        thread.join()
    assert found == ["x"]


@as_root
def test_groups_of_ours_are_left(account: Account, place: Path) -> None:
    """A file that only root's group may read cannot be read as the user."""
    before = os.getgroups()
    os.setgroups([0])
    try:
        secret = place / "secret"
        secret.write_text("x")
        secret.chmod(0o640)
        with account.acting(), pytest.raises(PermissionError):
            secret.read_text()
    finally:
        os.setgroups(before)


@as_root
def test_a_tree_changes_hands(account: Account, place: Path) -> None:
    """All files change their owner, except targets of links, and files with several hard links."""
    elsewhere = place / "elsewhere"
    elsewhere.write_text("")
    tree = place / "tree"
    (tree / "folder").mkdir(parents=True)
    (tree / "folder" / "file").touch()
    (tree / "link").symlink_to(elsewhere)
    (tree / "folder" / "second-name").hardlink_to(elsewhere)
    account.own(tree)
    owners = {path.name: path.lstat().st_uid for path in (tree, *tree.rglob("*"))}
    his = dict.fromkeys(("tree", "folder", "file", "link"), account.uid)
    assert owners == his | {"second-name": 0}
    assert elsewhere.stat().st_uid == 0


@as_root
def test_what_cannot_be_reached(account: Account, place: Path) -> None:
    """The error names the directory that the user may not enter."""
    (place / "closed" / "deep").mkdir(parents=True)
    (place / "closed").chmod(0o700)
    account.check_way(place / "closed", "")
    with pytest.raises(ConfigurationError) as caught:
        account.check_way(place / "closed" / "deep" / "deeper", "choose another")
    assert str(caught.value).startswith(f"the user nobody cannot reach {place}/closed/deep/deeper: {place}/closed is ")


@as_root
@pytest.mark.parametrize(
    ("owner", "group", "mode", "safe"),
    [
        (0, 0, 0o711, True),
        (0, 0, 0o1777, True),
        (0, 0, 0o777, False),
        (0, HIS_GROUP, 0o771, False),
        (HE, 0, 0o711, False),
    ],
)
def test_ways_that_the_user_may_change(
    account: Account, place: Path, owner: int, group: int, mode: int, safe: bool
) -> None:
    """A directory in which the user could replace our files is refused."""
    way = place / "way"
    (way / "state").mkdir(parents=True)
    (way / "state").chmod(0o711)
    os.chown(way, owner, group)
    way.chmod(mode)
    if safe:
        account.check_way(way / "state", "choose another")
        return
    with pytest.raises(ConfigurationError, match=f"may change {way};") as caught:
        account.check_way(way / "state", "choose another")
    assert "chown -R" in caught.value.advice


@as_root
@pytest.mark.parametrize("name", ["lock", "ledger.sqlite3", "jobs"])
def test_state_directory_that_was_the_users_own(account: Account, place: Path, name: str) -> None:
    """A state directory that the user owns, from an earlier run as that user, is refused with advice."""
    StateDirectory(place / "state", "tester").close()
    (place / "state" / name).touch()
    os.chown(place / "state" / name, account.uid, account.gid)
    with pytest.raises(ConfigurationError, match=f"able to replace .*, but may change {place}/state/{name}"):
        StateDirectory(place / "state", "tester", account)


@as_root
def test_state_directory_is_open_to_go_through(account: Account, place: Path) -> None:
    """The user can reach the jobs, but not list or read the rest; an unreachable directory is an error."""
    state = StateDirectory(place / "state", "tester", account)
    job = state.job(1)
    job.prepare(b"{}", ["a/b"])
    state.close()
    with account.acting():
        assert (job.source / "notification.json").read_bytes() == b"{}"
        assert (job.destination / "uploads" / "a" / "b").is_dir()
        job.progress.write_text("{}")
        for closed in (place / "state", place / "state" / "jobs", job.path):
            with pytest.raises(PermissionError):
                list(closed.iterdir())
        with pytest.raises(PermissionError):
            (place / "state" / "lock").read_text()
    (place / "closed").mkdir(mode=0o700)
    with pytest.raises(ConfigurationError, match="closed is closed to that user") as caught:
        StateDirectory(place / "closed" / "state", "tester", account)
    assert "`state_dir`" in caught.value.advice


@as_root
@pytest.mark.parametrize("trap", ["notification", "folder", "pipe"])
def test_links_lead_the_runner_nowhere(account: Account, place: Path, trap: str) -> None:
    """Links of an earlier attempt in the job's directories do not lead the next attempt to foreign files."""
    job = JobDirectory(place / "1", account)
    job.prepare(b"first", ["a"])
    precious = place / "precious"
    precious.mkdir()
    (precious / "file").write_text("precious")
    with account.acting():
        if trap == "folder":
            shutil.rmtree(job.destination / "uploads")
            (job.destination / "uploads").symlink_to(precious)
        else:
            notification = job.source / "notification.json"
            notification.unlink()
            if trap == "pipe":
                os.mkfifo(notification)
            else:
                notification.symlink_to(precious / "file")
    if trap == "folder":
        with pytest.raises(PermissionError):
            job.prepare(b"second", ["a"])
    else:
        job.prepare(b"second", ["a"])
        assert not (job.source / "notification.json").is_symlink()
        assert (job.source / "notification.json").read_text() == "second"
    assert [path.name for path in precious.iterdir()] == ["file"]
    assert (precious / "file").read_text() == "precious"


@as_root
def test_jobs_of_another_user_are_taken_over(account: Account, place: Path) -> None:
    """Directories of jobs that root owns, from before --run-as was used, are given to the user."""
    JobDirectory(place / "1").prepare(b"first", ["a"])
    (place / "1" / "outgoing" / "uploads" / "a" / "file").touch(mode=0o600)
    job = JobDirectory(place / "1", account)
    job.prepare(b"second", ["a"])
    with account.acting():
        (job.destination / "uploads" / "a" / "file").write_text("x")
        assert (job.source / "notification.json").read_bytes() == b"second"


def test_the_current_user_needs_nothing(tmp_path: Path) -> None:
    """For the user of this process, owners and rights are not changed or checked."""
    job = JobDirectory(tmp_path / "1", CURRENT_USER)
    job.prepare(b"{}", [])
    assert stat.S_IMODE(job.path.stat().st_mode) == 0o700
    assert {path.stat().st_uid for path in job.path.rglob("*")} == {os.geteuid()}
    CURRENT_USER.check_way(tmp_path / "missing", "make it")
    answer = subprocess.run(["/usr/bin/id", "-u"], capture_output=True, check=True, **CURRENT_USER.popen_arguments())
    assert int(answer.stdout) == os.geteuid()


def test_notes_of_progress_that_are_none(tmp_path: Path) -> None:
    """A progress file that is a link, a pipe, or endless is ignored without waiting."""
    note = tmp_path / "progress.json"
    assert read_note(note) == ""
    os.mkfifo(note)
    assert read_note(note) == ""
    note.unlink()
    (tmp_path / "other").write_text("{}")
    note.symlink_to(tmp_path / "other")
    assert read_note(note) == ""
    note.unlink()
    os.link(tmp_path / "other", note)
    assert read_note(note) == ""
    note.unlink()
    note.write_text("{}" * 100_000)
    assert len(read_note(note)) < 10_000


@as_root
def test_other_engines_have_users_of_their_own(account: Account, place: Path) -> None:
    """`run_as` together with an engine is refused."""
    engine = LocalEngine(entry_point=place / "x.py", venv=Venv(place), services=Services())
    with pytest.raises(ConfigurationError, match="`run_as` cannot be used with another engine"):
        JobRunner(place / "x.py", place / "state", name="x", engine=engine, run_as=account)


@as_root
def test_user_by_name(account: Account, place: Path) -> None:
    """`run_as` of a composer may be the name of the user."""
    assert Account.of(account.name) == account
    with JobRunner(__file__, place / "state", name="x", services=Services(), run_as=account.name, warm=False) as runner:
        assert runner._run_as == account


@as_root
def test_imports_while_acting(account: Account, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is first used while acting as a user who cannot read this Python is imported nevertheless."""
    closed = place / "closed"
    (closed / "closed_package").mkdir(parents=True)
    closed.chmod(0o700)
    (closed / "secret").write_text("secret")
    (closed / "secret").chmod(0o600)
    read = f"__import__('pathlib').Path({str(closed / 'secret')!r}).read_text()"
    (closed / "closed_package" / "__init__.py").write_text(f"from . import inner\nfound = {read}\n")
    (closed / "closed_package" / "inner.py").write_text("import closed_other\n")
    (closed / "closed_other.py").write_text("")
    (closed / "closed_late.py").write_text("")
    (closed / "closed_codec.py").write_text("import codecs\ninfo = codecs.lookup('utf-8')\n")
    monkeypatch.syspath_prepend(str(closed))
    search = lambda name: importlib.import_module(name).info if name == "closed_codec" else None  # noqa: E731
    codecs.register(search)
    late: list[object] = []
    with account.acting():
        assert importlib.import_module("closed_package").found == "secret"
        assert b"x".decode("closed_codec") == "x"
        thread = threading.Thread(target=lambda: late.append(importlib.import_module("closed_late")))
        thread.start()
        thread.join()
        # The rights are those of the user again.
        with pytest.raises(PermissionError):
            (closed / "secret").read_text()
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module("closed_missing")
    codecs.unregister(search)
    assert len(late) == 1
    assert (closed / "secret").read_text() == "secret"


@pytest.mark.whole
@as_root
def test_a_deep_tree_changes_hands(account: Account, place: Path) -> None:
    """Folders in each other change their owner, with few open files; those whose paths are too long are refused."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    tree = place / "tree"
    tree.mkdir()
    with nest(tree, 1100):
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, before[1]))
        try:
            account.own(tree)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        assert (tree / ("a/" * 1100) / "file").stat().st_uid == account.uid
    os.chown(tree, 0, 0)
    with nest(tree, 20, LONG), pytest.raises(OSError, match="File name too long"):
        account.own(tree)
