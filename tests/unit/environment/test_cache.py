"""The cache builds an environment once, never removes one in use, and never uses an incomplete or damaged one."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pacifica_notifications_consumer import VenvBuilder
from pacifica_notifications_consumer.environment import cache as venv_cache
from pacifica_notifications_consumer.environment.cache import CacheLimits, VenvCache
from pacifica_notifications_consumer.environment.venv import Venv
from pacifica_notifications_consumer.errors import Cancelled, InitScriptError, StateError
from pacifica_notifications_consumer.system.files import try_lock
from tests.support.machine.trees import LONG, nest
from tests.support.machine.waiting import DEADLINE
from tests.support.paths import ROOT as _ROOT


class Builds:
    """Builds directories that look like environments, and records them."""

    def __init__(self, reason: str = "") -> None:
        self.reason = reason
        self.homes: list[Path] = []

    def __call__(self, home: Path) -> tuple[Venv, str]:
        self.homes.append(home)
        venv = Venv(home / "venv")
        package = venv.path / "lib" / "python3.11" / "site-packages" / "p"
        package.mkdir(parents=True)
        venv.bin.mkdir()
        venv.python.symlink_to(sys.executable)
        (package / "__init__.py").write_text("x" * 1000)
        (package / "__pycache__").mkdir()
        (package / "__pycache__" / "__init__.pyc").write_text("y")
        return venv, self.reason


@pytest.fixture
def builds() -> Builds:
    return Builds()


@pytest.fixture
def cache(tmp_path: Path) -> VenvCache:
    return VenvCache(tmp_path / "cache")


def use(cache: VenvCache, builds: Builds, key: str = "k") -> Path:
    with cache.environment(key, builds) as venv:
        assert venv.python.exists()
        return venv.path


def test_found_again(cache: VenvCache, builds: Builds, tmp_path: Path) -> None:
    """The second use builds nothing; another key has another environment; only this user has access."""
    first = use(cache, builds)
    os.utime(first.parent / "in-use", (0, 0))
    assert use(cache, builds) == use(VenvCache(tmp_path / "cache"), builds) == first
    assert time.time() - cache.kept()[0].used_at < 60
    assert use(cache, builds, "other") != first
    assert len(builds.homes) == 2
    assert (tmp_path / "cache" / "k").stat().st_mode & 0o077 == 0
    # The clock of the file system may give both the same time.
    os.utime(first.parent / "in-use", (time.time() - 100,) * 2)
    assert [(kept.key, kept.size > 1000) for kept in cache.kept()] == [("other", True), ("k", True)]


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda venv: (venv / "lib/python3.11/site-packages/p/__init__.py").unlink(), "__init__.py is missing"),
        (lambda venv: (venv / "lib/python3.11/site-packages/p/__init__.py").write_text("z"), "has changed"),
        (lambda venv: (venv / "bin" / "python").unlink(), "bin/python is missing"),
        (lambda venv: venv.rename(venv.with_name("moved")), "is missing"),
    ],
)
def test_damaged(
    cache: VenvCache, builds: Builds, caplog: pytest.LogCaptureFixture, harm: Callable[[Path], object], words: str
) -> None:
    """A damaged environment is built again, and the log says why."""
    first = use(cache, builds)
    harm(first)
    second = use(cache, builds)
    assert second != first
    assert len(builds.homes) == 2
    assert words in caplog.text
    # The damaged environment has been removed.
    assert not first.parent.exists()
    assert use(cache, builds) == second


def test_interpreter_that_has_gone(cache: VenvCache, builds: Builds, tmp_path: Path) -> None:
    """An environment whose base Python was removed is not used."""

    def build(home: Path) -> tuple[Venv, str]:
        venv, reason = builds(home)
        venv.python.unlink()
        (tmp_path / "python").touch()
        venv.python.symlink_to(tmp_path / "python")
        return venv, reason

    with cache.environment("k", build):
        pass
    (tmp_path / "python").unlink()
    use(cache, builds)
    assert len(builds.homes) == 2


def test_directory_that_others_may_change(cache: VenvCache, builds: Builds, tmp_path: Path) -> None:
    """A directory of a key that another user may change, or has made, is refused: its environment could be a trap."""
    (tmp_path / "cache" / "k").mkdir(parents=True)
    (tmp_path / "cache" / "k").chmod(0o777)
    with pytest.raises(StateError, match=r"cannot be used: another user may change .*/cache/k; choose another"):
        use(cache, builds)
    (tmp_path / "cache" / "k").rmdir()
    (tmp_path / "cache" / "k").symlink_to(tmp_path)
    with pytest.raises(StateError, match="another user may change"):
        use(cache, builds)
    assert builds.homes == []


UNREADABLE = [
    '{"size": 5}',
    '{"size": 5, "files": {"p": 1}}',
    '{"size": 5, "files": []}',
    '{"size": null, "files": {}}',
]


@pytest.mark.parametrize("contents", ["{", "{}", "[]", *UNREADABLE])
def test_unreadable_contents(cache: VenvCache, builds: Builds, contents: str) -> None:
    """An environment whose contents.json cannot be read is not used."""
    first = use(cache, builds)
    (first.parent / "contents.json").write_text(contents)
    assert use(cache, builds) != first


def test_one_that_is_being_removed(cache: VenvCache, builds: Builds) -> None:
    """An environment that another process has locked in order to remove it is not used."""
    first = use(cache, builds)
    with (first.parent / "in-use").open("ab") as removing:
        assert try_lock(removing)
        assert use(cache, builds) != first


def test_compiled_files_may_change(cache: VenvCache, builds: Builds) -> None:
    """Changed compiled files are not damage, because the interpreter may rewrite them."""
    first = use(cache, builds)
    compiled = first / "lib/python3.11/site-packages/p/__pycache__"
    (compiled / "__init__.pyc").write_text("other")
    (compiled / "more.pyc").touch()
    assert use(cache, builds) == first


def test_one_that_is_not_kept(cache: VenvCache, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An environment that cannot be reused is removed when its context ends."""
    builds = Builds("it is special")
    with cache.environment("k", builds) as venv:
        assert venv.python.exists()
        assert cache.prune(CacheLimits(age=0, size=0)) == []
        assert venv.python.exists()
    assert not venv.path.exists()
    assert cache.kept() == []
    assert "the environment is not kept in the cache: it is special" in caplog.text


def test_failure_leaves_nothing(cache: VenvCache, tmp_path: Path) -> None:
    """A failed or cancelled build leaves no incomplete environment."""

    def build(home: Path) -> tuple[Venv, str]:
        (home / "venv").mkdir()
        raise Cancelled("stopped")

    with pytest.raises(Cancelled), cache.environment("k", build):
        pass
    assert [path.name for path in (tmp_path / "cache" / "k").iterdir()] == ["lock"]


def test_limits(cache: VenvCache, builds: Builds) -> None:
    """The least recently used environments are removed by age and by size, but none that is in use."""
    paths = [use(cache, builds, f"k{number}") for number in range(4)]
    for age, path in enumerate(reversed(paths)):
        os.utime(path.parent / "in-use", (time.time() - age * 3600,) * 2)
    size = cache.kept()[0].size
    with cache.environment("k0", builds):
        os.utime(paths[0].parent / "in-use", (0, 0))
        removed = cache.prune(CacheLimits(age=None, size=2 * size))
        # k1 exceeds the size; k0 is older, but in use.
        assert [kept.key for kept in removed] == ["k1"]
        assert [path.exists() for path in paths] == [True, False, True, True]
    assert [kept.key for kept in cache.prune(CacheLimits(age=1800.0, size=None))] == ["k2", "k0"]
    assert [kept.key for kept in cache.kept()] == ["k3"]
    assert cache.prune(CacheLimits(age=None, size=None)) == []


@pytest.mark.parametrize(
    ("text", "age", "size"),
    [("30d", 30 * 86400, None), ("2w,20G", 14 * 86400, 20 << 30), ("500M", None, 500 << 20), ("12h", 43200, None)],
)
def test_limits_in_words(text: str, age: float | None, size: int | None) -> None:
    """Limits are parsed from an age, a size, or both, and formatted the same way."""
    assert CacheLimits.parse(text) == CacheLimits(age=age, size=size)
    assert CacheLimits.parse(str(CacheLimits.parse(text))) == CacheLimits(age=age, size=size)


@pytest.mark.parametrize("text", ["", "30", "30d,30d", "G", "-1d", "1.5G"])
def test_limits_that_are_none(text: str) -> None:
    """Other texts than an age and a size are refused."""
    with pytest.raises(ValueError, match="it must be an age such as 30d"):
        CacheLimits.parse(text)


#: Uses the environment of a key, whose build takes some seconds. Arguments: DIRECTORY KEY SECONDS.
_USER = """
import sys, time
from pathlib import Path
from pacifica_notifications_consumer.environment.cache import VenvCache
from tests.unit.environment.test_cache import Builds
builds = Builds()
def build(home):
    print("makes", flush=True)
    time.sleep(float(sys.argv[3]))
    return builds(home)
with VenvCache(Path(sys.argv[1])).environment(sys.argv[2], build) as venv:
    print(venv.path, flush=True)
    sys.stdin.read()
"""


def start(directory: Path, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _USER, str(directory), "k", str(seconds)]
    return subprocess.Popen(command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_several_processes_make_one(tmp_path: Path, cache: VenvCache, builds: Builds) -> None:
    """Processes that need an environment during its build wait for it, and no process removes it while it is used."""
    processes = [start(tmp_path / "cache", 0.5) for _ in range(3)]
    try:
        said = []
        for process in processes:
            assert process.stdout
            lines = [process.stdout.readline()]
            if lines[0] == "makes\n":
                lines.append(process.stdout.readline())
            said.append(lines)
        assert sorted(len(lines) for lines in said) == [1, 1, 2]
        assert len({lines[-1] for lines in said}) == 1
        assert cache.prune(CacheLimits(age=0, size=0)) == []
    finally:
        for process in processes:
            process.communicate()
    assert len(cache.prune(CacheLimits(age=0, size=0))) == 1


def test_one_that_was_killed_half_way(tmp_path: Path, cache: VenvCache, builds: Builds) -> None:
    """An incomplete environment of a process that was killed during the build is not used, and is removed."""
    process = start(tmp_path / "cache", 60)
    assert process.stdout
    assert process.stdout.readline() == "makes\n"
    process.kill()
    process.communicate()
    (left,) = [path for path in (tmp_path / "cache" / "k").iterdir() if path.is_dir()]
    path = use(cache, builds)
    assert path.parent != left
    assert not left.exists()


def test_other_directories_stay(tmp_path: Path, builds: Builds) -> None:
    """A cache in a directory that holds other things, too, removes only environments, whatever it finds."""
    for name in ("photos/2025/a.jpg", "thesis/chapters/1.tex", ".config/app/in-use", "locked/b/c", "locked/lock"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    cache = VenvCache(tmp_path, CacheLimits(age=0.0, size=0))
    assert cache.prune() == []
    assert sorted(tmp_path.rglob("*")) == before
    use(cache, builds)
    cache.prune()
    assert set(before) <= {*tmp_path.rglob("*")}
    assert cache.kept() == []


def test_waiting_is_cancelled(
    tmp_path: Path, cache: VenvCache, builds: Builds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Waiting for the build of another process can be cancelled."""
    monkeypatch.setattr(venv_cache, "_POLL", 0.01)
    process = start(tmp_path / "cache", 60)
    assert process.stdout
    assert process.stdout.readline() == "makes\n"
    cancel = threading.Event()
    threading.Timer(0.1, cancel.set).start()
    with pytest.raises(Cancelled, match="another process"), cache.environment("k", builds, cancel):
        pass
    process.kill()
    process.communicate()


def test_links_in_an_environment(cache: VenvCache, builds: Builds) -> None:
    """Links that lead nowhere, to themselves, or through a file belong to an environment like any other."""

    def build(home: Path) -> tuple[Venv, str]:
        venv, reason = builds(home)
        (venv.path / "file").touch()
        for name, target in (("itself", "itself"), ("through", "file/sub"), ("nowhere", "missing"), ("up", "..")):
            (venv.path / name).symlink_to(target)
        return venv, reason

    with cache.environment("k", build), cache.environment("k", build):
        assert len(builds.homes) == 1


def test_directory_that_cannot_be_used(tmp_path: Path, builds: Builds) -> None:
    """The error names a file that is in the way of the directory."""
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match="file cannot be used: Not a directory"):
        use(VenvCache(tmp_path / "file"), builds)


def test_parents_of_the_directory(tmp_path: Path, builds: Builds) -> None:
    """Others can pass through missing parents that are made for the directory, no more, whatever the umask."""
    before = os.umask(0)
    try:
        use(VenvCache(tmp_path / "a" / "b" / "cache"), builds)
    finally:
        os.umask(before)
    assert [(tmp_path / path).stat().st_mode & 0o777 for path in ("a", "a/b", "a/b/cache")] == [0o711, 0o711, 0o700]


@pytest.mark.parametrize(
    ("depth", "length", "kept"), [pytest.param(1100, 1, True, marks=pytest.mark.whole), (20, LONG, False)]
)
def test_folders_in_each_other(
    cache: VenvCache, builds: Builds, caplog: pytest.LogCaptureFixture, depth: int, length: int, *, kept: bool
) -> None:
    """An environment may have hundreds of folders in each other; one with longer paths than there are is not kept."""

    def build(home: Path) -> tuple[Venv, str]:
        venv, reason = builds(home)
        with nest(venv.path, depth, length, leave=True):
            return venv, reason

    with cache.environment("k", build), cache.environment("k", build):
        assert len(builds.homes) == (1 if kept else 2)
    said = "the environment is not kept in the cache: its folders are nested too deeply"
    assert (said in caplog.messages) is not kept
    cache.prune(CacheLimits(size=0))
    assert not any(home.exists() for home in builds.homes)


@pytest.mark.parametrize("cached", [True, False])
def test_programs_bear_the_mark_of_their_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, cached: bool
) -> None:
    """The mark of ``init.sh`` begins with the directory of the build, so that others can find what it leaves."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "init.sh").write_text("echo $PACIFICA_JOB; exit 1")
    cache = tmp_path / "cache" if cached else None
    builder = VenvBuilder(directory=tmp_path, init_script=tmp_path / "init.sh", cache=cache)
    with pytest.raises(InitScriptError) as caught, builder:
        pass
    home = r"/cache/[0-9a-f]{32}/[0-9a-f]{12}" if cached else r"/pacifica-venv-\w+"
    assert re.fullmatch(rf"{re.escape(str(tmp_path))}{home}::[0-9a-f]{{32}}", caught.value.output)


@pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
def test_what_a_killed_build_has_left_running(cache: VenvCache, builds: Builds, tmp_path: Path) -> None:
    """The next start ends the programs of a build that was killed, but not those of one that is still going on."""
    use(cache, builds, "other")
    (tmp_path / "link").symlink_to(tmp_path / "cache")
    left = tmp_path / "cache" / "other" / "0123456789ab"
    left.mkdir()
    with (left / "in-use").open("w") as in_use:
        try_lock(in_use.fileno(), shared=True)
        with (
            subprocess.Popen(["/bin/sleep", "100"], env={"PACIFICA_JOB": f"{left}:0"}) as program,
            contextlib.ExitStack() as stack,
        ):
            stack.callback(program.kill)
            use(VenvCache(tmp_path / "link"), builds)
            assert program.poll() is None
            in_use.close()
            use(VenvCache(tmp_path / "link"), builds)
            assert program.wait(DEADLINE) == -signal.SIGKILL
    assert not left.exists()
