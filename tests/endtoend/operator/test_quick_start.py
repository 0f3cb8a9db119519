"""What makes a start quick: environments that are kept, and modules that are imported beforehand."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from pacifica_notifications_consumer.testing.sandbox import Sandbox
from tests.endtoend.conftest import START, TOOL, Deployment, Operator, event, pack, wait_until

CACHED = {"__main__.py": "print('ran')", "init.sh": 'date +%N > "$VIRTUAL_ENV/made"\n'}


def test_cached_start(operator: Operator, sandbox: Sandbox, tmp_path: Path) -> None:
    """The second start of a consumer uses the first one's environment; the tools show it, and remove it."""
    archive, cache = pack(tmp_path / "consumer.zip", CACHED), tmp_path / "cache"
    flags = ("--venv-cache", cache, "--installer", "uv")
    made = set()
    for number in (1, 2):
        deployment = Deployment(operator, sandbox, archive, *flags)
        deployment.post(event(number))
        deployment.job(number)
        assert ("creating a virtual environment" in deployment.command.stderr) == (number == 1)
        assert ("running init.sh" in deployment.command.stderr) == (number == 1)
        (venv,) = cache.glob("*/*/venv")
        made.add((venv, (venv / "made").read_text()))
        assert "requests==" in (deployment.state_dir / "requirements.lock").read_text()
        # Nobody removes it under a consumer that runs.
        assert operator.run(TOOL, "environments", "--prune", "--venv-cache-keep", "0h", *flags[:2]).stdout == ""
        assert deployment.command.stop().status == 0
        assert operator.leftovers() == []
    assert len(made) == 1
    listed = operator.run(TOOL, "environments", *flags[:2])
    assert (listed.status, str(venv) in listed.stdout) == (0, True)
    shown = operator.run(TOOL, "environments", venv.parent.parent.name[:6], *flags[:2])
    assert re.search(r"^requests==", shown.stdout, re.MULTILINE)
    missing = operator.run(TOOL, "environments", "zzz", *flags[:2])
    assert (missing.status, "no environment has a key that begins with zzz" in missing.error(TOOL)) == (78, True)
    nowhere = operator.run(TOOL, "environments", variables={"XDG_CACHE_HOME": "/dev/null"})
    advice = "set --venv-cache (PACIFICA_VENV_CACHE) to its directory"
    assert (nowhere.status, advice in nowhere.error(TOOL)) == (78, True)
    assert "removed" in operator.run(TOOL, "environments", "--prune", "--venv-cache-keep", "0h", *flags[:2]).stdout
    assert not venv.exists()


def test_cached_start_is_quick(operator: Operator, sandbox: Sandbox, tmp_path: Path) -> None:
    """With a cached environment the command is ready without building or installing anything."""
    archive, flags = pack(tmp_path / "consumer.zip", {"__main__.py": ""}), ("--venv-cache", tmp_path / "cache")
    logs = []
    for _ in range(2):
        deployment = Deployment(operator, sandbox, archive, *flags)
        logs.append(deployment.command.stop().stderr)
    made, used = "creating a virtual environment", "using the environment"
    assert [(made in log, used in log) for log in logs] == [(True, False), (False, True)]


@pytest.mark.parametrize("installer", ["uv", "pip"])
def test_interrupted_while_it_installs(operator: Operator, tmp_path: Path, installer: str) -> None:
    """Ctrl-C in the midst leaves neither half an environment in the cache nor a process."""
    hanging = tmp_path / "hanging"
    hanging.mkdir()
    (hanging / "setup.py").write_text(
        f"import pathlib, time; pathlib.Path({str(tmp_path / 'began')!r}).touch(); time.sleep(600)\n"
    )
    (hanging / "pyproject.toml").write_text(
        "[build-system]\nrequires = []\nbuild-backend = 'setup'\nbackend-path=['.']\n"
    )
    archive = pack(tmp_path / "consumer.zip", {"__main__.py": "", "requirements.txt": f"{hanging}\n"})
    cache = tmp_path / "cache"
    command = operator.command(START, archive, "--username", "alice", "--venv-cache", cache, "--installer", installer)
    command.wait_for("installing requirements.txt")
    wait_until((tmp_path / "began").exists, "the installer builds")
    outcome = command.stop(signal.SIGINT)
    assert outcome.status == 130
    assert [path.name for path in cache.glob("*/*")] == ["lock"]
    assert operator.leftovers() == []


def test_init_sh_that_writes_beside_the_entry_point(operator: Operator, tmp_path: Path) -> None:
    """An environment is not kept whose init.sh makes files in the consumer's directory: they would be missing."""
    files = {"__main__.py": "print(open('model').read())", "init.sh": "echo learnt > model\n"}
    archive, path, cache = pack(tmp_path / "consumer.zip", files), tmp_path / "n.json", tmp_path / "cache"
    path.write_bytes(event(1))
    for _ in range(2):
        outcome = operator.run(TOOL, "run", archive, path, "--venv-cache", cache)
        assert (outcome.status, outcome.stdout) == (0, "learnt\n\n")
        assert "the environment is not kept in the cache: init.sh writes to the consumer's directory" in outcome.stderr
    assert list(cache.glob("*/*/")) == []


def test_preloaded_modules(operator: Operator, sandbox: Sandbox, tmp_path: Path, quick_python: Path) -> None:
    """What preload.txt and --preload name is imported once for all jobs; --start cold imports it in each."""
    files = {
        "__main__.py": "import mine, other, os, sys\nprint(mine.pid, other.pid, os.getpid(), os.getppid())\n",
        "mine.py": "import os\npid = os.getpid()\n",
        "other.py": "import os\npid = os.getpid()\n",
        "preload.txt": "mine  # heavy\n",
    }
    archive = pack(tmp_path / "consumer.zip", files)
    deployment = Deployment(operator, sandbox, archive, "--python", quick_python, "--preload", "other")
    deployment.command.wait_for("entry-points start warm")
    for number in (1, 2):
        deployment.post(event(number))
        _, directory = deployment.job(number)
        mine, other, own, parent = (directory / "output.log").read_text().split()
        assert mine == other == parent != own
    assert deployment.command.stop().status == 0
    deployment = Deployment(operator, sandbox, archive, "--python", quick_python, "--start", "cold")
    deployment.post(event(3))
    _, directory = deployment.job(3)
    mine, other, own, parent = (directory / "output.log").read_text().split()
    assert (mine, other, parent) == (own, own, str(deployment.command.process.pid))
