"""The lock file of an environment lists what an index can give."""

import os
import tracemalloc
from pathlib import Path

import pytest

from pacifica_notifications_consumer.environment.installer import Uv
from pacifica_notifications_consumer.environment.interpreter import Interpreter
from pacifica_notifications_consumer.environment.lock_file import list_packages, lock_file
from pacifica_notifications_consumer.environment.venv import Venv


def test_list_packages(tmp_path: Path) -> None:
    """This library is a comment, and the misnomer of the specification's example is left out."""
    (tmp_path / "lib" / "python3.11" / "site-packages").mkdir(parents=True)
    venv = Venv(tmp_path)
    for name in ("promise", "promises", "Pacifica_Notifications.Consumer", "my_lab"):
        info = venv.site_packages / f"{name}-2.3.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Name: {name.replace('.', '-')}\nVersion: 2.3\n")
    (venv.site_packages / "my_lab-2.3.dist-info" / "direct_url.json").write_text('{"url": "file:///wheels/my_lab.whl"}')
    assert list_packages(venv) == [
        "my-lab @ file:///wheels/my_lab.whl",
        "# pacifica-notifications-consumer==2.3",
        "promise==2.3",
    ]


def test_packages_that_would_add_lines(tmp_path: Path) -> None:
    """What a package says about itself stays on its line, so that the lock file never says where to install from."""
    venv = Venv(tmp_path)
    metadata = venv.path / "lib" / "python3.11" / "site-packages" / "a-1.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Name: a\nVersion: 1\n")
    interpreter = Interpreter(executable="python3", version="3.11.7", build="", pip_wheel=None)
    for origin in ('{"url": "file:///x\\n--index-url http://x"}', "[]", "["):
        (metadata / "direct_url.json").write_text(origin)
        head, line, end = lock_file(list_packages(venv), interpreter, Uv(program="uv", version="1")).split("\n")
        assert (head[0], line.partition(" ")[0].partition("=")[0], end) == ("#", "a", "")


def test_files_that_would_block(tmp_path: Path) -> None:
    """Packages whose metadata are pipes, endless or missing are left out; an origin that is a pipe does not count."""
    venv = Venv(tmp_path)
    for name in ("pipe", "endless", "missing", "sound"):
        (venv.path / "lib" / "python3.11" / "site-packages" / f"{name}-1.dist-info").mkdir(parents=True)
    folders = {path.name.partition("-")[0]: path for path in venv.site_packages.iterdir()}
    os.mkfifo(folders["pipe"] / "METADATA")
    (folders["endless"] / "METADATA").touch()
    os.truncate(folders["endless"] / "METADATA", 1 << 40)
    (folders["sound"] / "METADATA").write_text("Name: sound\nVersion: 1\n")
    os.mkfifo(folders["sound"] / "direct_url.json")
    (venv.site_packages / "old-1.egg-info").write_text("Name: old\nVersion: 1\n")
    assert list_packages(venv) == ["old==1", "sound==1"]


@pytest.mark.whole
def test_long_metadata(tmp_path: Path) -> None:
    """Only the beginning of metadata is read, where the name and the version are."""
    venv = Venv(tmp_path)
    for name, head in (("long", "Name: long\nVersion: 1\n"), ("odd", "")):
        folder = venv.path / "lib" / "python3.11" / "site-packages" / f"{name}-1.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(head + "a:\n" * 200_000)
    tracemalloc.start()
    try:
        assert list_packages(venv) == ["long==1"]
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
