"""Canaries: secrets of every kind are planted, and none is found in any log, page, process title, or file."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from pathlib import Path

import pytest
import requests

from pacifica_notifications_consumer.jobs.job import JobState
from pacifica_notifications_consumer.testing.sandbox import Sandbox
from tests.endtoend.conftest import DEADLINE, START, TOOL, Deployment, Operator, event, pack
from tests.support.machine.waiting import wait_for_line

#: Says that it has the password, which it is to have, and fails so that much is shown of it.
ENTRY_POINT = """\
import os, sys, time
print("the password has", len(os.environ["PACIFICA_PASSWORD"]), "characters", flush=True)
while not os.path.exists(sys.argv[2] + "/go"):
    time.sleep(0.01)
raise SystemExit(3)
"""
PASSWORD = "canary-password"
SECRET = base64.b64encode(b"canary of a webhook's secret key").decode()
PAGES = ("/", "/jobs", "/jobs/1", "/jobs/1/retry", "/notifications", "/notifications/1", "/replay", "/metrics")
DOCUMENTS = ("/api/status", "/api/jobs", "/api/jobs/1", "/api/jobs/1/log", "/api/jobs/1/files", "/api/notifications/1")


@pytest.fixture
def deployment(operator: Operator, sandbox: Sandbox, tmp_path: Path, quick_python: Path) -> Deployment:
    (operator.home / "password").write_text(PASSWORD)
    (operator.home / "secrets").write_text(f"whsec_{SECRET}\n")
    archive = pack(tmp_path / "consumer.zip", {"__main__.py": ENTRY_POINT, "init.sh": "env; exit 0\n"})
    flags: list[str | Path] = ["--password-file", operator.home / "password"]
    flags += ["--webhook-secrets", operator.home / "secrets", "--python", quick_python]
    flags += ["--response-policy", "strict", "--verbose"]
    return Deployment(operator, sandbox, archive, *flags)


def signed(body: bytes) -> dict[str, str]:
    stamp = str(int(time.time()))
    mac = hmac.digest(base64.b64decode(SECRET), f"m.{stamp}.".encode() + body, hashlib.sha256)
    signature = f"v1,{base64.b64encode(mac).decode()}"
    return {"webhook-id": "m", "webhook-timestamp": stamp, "webhook-signature": signature}


def test_no_canary_sings(operator: Operator, deployment: Deployment) -> None:
    """Not the password, nor a token, nor a secret, is where somebody else could read it."""
    url = f"{deployment.url}/receive"
    status = json.loads((deployment.state_dir / "status.json").read_text())
    canaries = [PASSWORD, SECRET, deployment.token, status["token"]]
    assert all(len(canary) > 10 for canary in canaries)
    with requests.Session() as session:
        session.trust_env = False
        form = {"Content-Type": "application/json"}
        taken = session.post(f"{url}?access_token={deployment.token}", data=event(1), headers=form, timeout=DEADLINE)
        assert taken.status_code == 202
        assert session.post(url, data=event(2), headers=form | signed(event(2)), timeout=DEADLINE).status_code == 202
        # What is refused is not shown either.
        for wrong in (f"{deployment.token}x", f"{PASSWORD}"):
            bad = form | {"Authorization": f"Bearer {wrong}"}
            assert session.post(url, data=event(3), headers=bad, timeout=DEADLINE).status_code == 401
        deployment.job(1, JobState.RUNNING)
        wait_for_line(deployment.state_dir / "jobs" / "1" / "output.log")
        titles = "\n".join(operator.processes().values())
        session.get(f"{status['url']}/?token={status['token']}", timeout=DEADLINE)
        shown = {}
        for path in (*PAGES, *DOCUMENTS):
            answer = session.get(f"{status['url']}{path}", timeout=DEADLINE)
            assert answer.status_code == 200, path
            shown[path] = answer.text
        shown["/metrics of the endpoint"] = session.get(f"{deployment.url}/metrics", timeout=DEADLINE).text
    for number in (1, 2):
        deployment.let_end(number)
        deployment.job(number, JobState.DEAD)
    for command in ("list", "show 1", "log 1"):
        shown[command] = "".join(operator.run(TOOL, "jobs", *command.split(), "--state-dir", deployment.state_dir)[1:])
    assert f"the password has {len(PASSWORD)} characters" in shown["log 1"]
    outcome = deployment.command.stop()
    assert outcome.status == 0
    # The status page's token is told in one file, to the user alone, while the consumer runs.
    kept = {path.name: path.read_bytes() for path in deployment.state_dir.rglob("*") if path.is_file()}
    assert "status.json" not in kept
    assert "ledger.sqlite3" in kept
    for canary in canaries:
        assert canary not in titles
        assert canary not in outcome.stderr + outcome.stdout
        assert [path for path, text in shown.items() if canary in text] == []
        assert [name for name, content in kept.items() if canary.encode() in content] == []


def test_refused_settings_show_no_secret(operator: Operator, tmp_path: Path) -> None:
    """What is said of wrong settings does not show those that are secret."""
    archive = pack(tmp_path / "consumer.zip", {"__main__.py": ""})
    (operator.home / "config.ini").write_text(
        f"[pacifica-notifications-consumer]\npassword = {PASSWORD}\nbroker_url = ftp://:{PASSWORD}@x\n"
    )
    (operator.home / "secrets").write_text(f"{PASSWORD}\n")
    for flag, name in (("--config", "config.ini"), ("--webhook-secrets", "secrets")):
        outcome = operator.run(START, archive, "--username", "alice", flag, operator.home / name)
        assert outcome.status == 78
        assert PASSWORD not in outcome.stderr + outcome.stdout
