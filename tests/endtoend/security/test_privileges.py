"""What a consumer gives up, and what nobody else may read."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from pacifica_notifications_consumer.testing.sandbox import Sandbox
from tests.endtoend.conftest import KEEPER, Deployment, Operator, event, pack

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


def test_files_are_the_users_alone(operator: Operator, sandbox: Sandbox, tmp_path: Path, quick_python: Path) -> None:
    """Whatever the umask, and though the state directory is open to all, nobody else may read what is in it."""
    archive = pack(tmp_path / "consumer.zip", {"__main__.py": KEEPER})
    (operator.home / "state").mkdir(mode=0o755)
    before = os.umask(0)
    try:
        deployment = Deployment(operator, sandbox, archive, "--python", quick_python)
    finally:
        os.umask(before)
    # One that stands in a file of its own, too.
    for number, padding in ((1, ""), (2, "x" * 200_000)):
        deployment.post(event(number, extensions={"padding": padding}))
        deployment.job(number)
    seen = json.loads((deployment.state_dir / "jobs" / "1" / "outgoing" / "seen.json").read_text())
    assert seen["folders"] == []
    # What the entry-point writes is its own business.
    its_own = {"seen.json"}
    found = [path for path in deployment.state_dir.rglob("*") if path.name not in its_own]
    assert len(found) > 15
    assert [path for path in found if stat.S_IMODE(path.stat().st_mode) & 0o077] == []
    assert deployment.command.stop().status == 0
    assert [
        path for path in deployment.state_dir.rglob("*") if path.name not in its_own and path.stat().st_mode & 0o077
    ] == []
