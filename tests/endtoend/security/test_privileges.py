"""What a consumer gives up, and what nobody else may read."""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path

import pytest

from pacifica_notifications_consumer.testing.sandbox import Sandbox
from tests.endtoend.conftest import KEEPER, Deployment, Operator, event, pack, send
from tests.endtoend.security.conftest import Installation
from tests.support.machine.other_user import NOBODY, as_root

STATUS = "import shutil, sys; shutil.copy('/proc/self/status', sys.argv[2] + '/status')"


@pytest.mark.parametrize(("flags", "expected"), [([], "1"), (["--allow-new-privileges"], "0")])
def test_new_privileges(
    operator: Operator, sandbox: Sandbox, tmp_path: Path, quick_python: Path, flags: list[str], expected: str
) -> None:
    """Entry-points cannot gain rights by running a program, unless the operator lets them."""
    archive = pack(tmp_path / "consumer.zip", {"__main__.py": STATUS})
    deployment = Deployment(operator, sandbox, archive, "--python", quick_python, *flags)
    deployment.post(event(1))
    _, directory = deployment.job(1)
    status = (directory / "outgoing" / "status").read_text()
    assert f"NoNewPrivs:\t{expected}\n" in status
    assert deployment.command.stop().status == 0


#: Leaves output that is trimmed, and a file of its own.
LOUD = KEEPER + "for _ in range(200): print('x' * 1000)\n"

UPLOADER = """\
import sys
from pacifica_notifications_consumer import download, upload
def work(notification):
    print("x" * 200_000)
    open(sys.argv[2] + "/uploads/b.txt", "w").write("b")
    rows = [row for row in notification["data"] if "value" in row and "key" not in row]
    attributes = {row["destinationTable"]: row["value"] for row in rows}
    attributes.pop("Transactions._id")
    return upload(sys.argv[2], attributes, {})
download(sys.argv[1]).then(work)
"""


def open_to_others(top: Path) -> list[str]:
    """What a user who is neither the owner nor in the group can read, write, list or change below a directory."""
    found = []
    for path in top.iterdir():
        mode = path.lstat().st_mode
        if not stat.S_ISLNK(mode) and mode & 0o066:
            found.append(f"{path} {mode:o}")
        if stat.S_ISDIR(mode) and mode & 0o011:
            found += open_to_others(path)
    return found


def begin_with_umask_0(operator: Operator, sandbox: Sandbox, archive: Path, *flags: str | Path) -> Deployment:
    """Start a consumer without a umask, and with a state directory that was open to all before."""
    (operator.home / "state").mkdir(mode=0o755)
    before = os.umask(0)
    try:
        return Deployment(operator, sandbox, archive, *flags, "--output-limit", "10K")
    finally:
        os.umask(before)


def test_files_are_the_users_alone(operator: Operator, sandbox: Sandbox, tmp_path: Path, quick_python: Path) -> None:
    """With umask 0 and an open state directory, its files can be read and written by their user only."""
    archive = pack(tmp_path / "consumer.zip", {"__main__.py": LOUD})
    cache = operator.home / "state" / "cache"
    deployment = begin_with_umask_0(operator, sandbox, archive, "--python", quick_python, "--venv-cache", cache)
    # One that stands in a file of its own, too.
    for number, padding in ((1, ""), (2, "x" * 200_000)):
        deployment.post(event(number, extensions={"padding": padding}))
        _, directory = deployment.job(number)
        assert "bytes are left out here" in (directory / "output.log").read_text()
    seen = json.loads((deployment.state_dir / "jobs" / "1" / "outgoing" / "seen.json").read_text())
    assert seen["folders"] == []

    def open_files() -> list[str]:
        # What the entry-point and the installer write is their own business; two files are for installers of all users.
        others = [*(deployment.state_dir / "jobs").glob("*/outgoing/seen.json"), *cache.glob("*/*/venv/**/*")]
        others += [*cache.glob("*/*/constraints.txt"), *cache.glob("*/*/*.whl")]
        counted = set(deployment.state_dir.rglob("*")).difference(others)
        assert len(counted) > 20
        return [f"{path} {path.stat().st_mode:o}" for path in counted if path.stat().st_mode & 0o077]

    assert open_files() == []
    assert deployment.command.stop().status == 0
    assert open_files() == []


@as_root
def test_files_of_another_user(
    operator_for_all: Operator, sandbox: Sandbox, tmp_path: Path, installation: Installation
) -> None:
    """A third user can pass through directories, and can neither read nor write files but what installers read."""
    operator = operator_for_all
    files = {"__main__.py": UPLOADER, "init.sh": "true\n"}
    flags: list[str | Path] = ["--python", installation.python, "--run-as", NOBODY]
    flags += ["--venv-cache", operator.home / "state" / "cache"]
    deployment = begin_with_umask_0(operator, sandbox, pack(tmp_path / "consumer.zip", files), *flags)
    send(sandbox, tmp_path, {"a.txt": b"alpha\n"})
    _, directory = deployment.job(1)
    assert "bytes are left out here" in (directory / "output.log").read_text()
    assert list(directory.glob("outgoing/upload-*.jsonl"))
    for _ in range(2):
        for_installers = re.compile(r".*/cache/\w+/\w+/(constraints\.txt|[^/]*\.whl) 100644")
        assert [path for path in open_to_others(deployment.state_dir) if not for_installers.fullmatch(path)] == []
        deployment.command.stop()
