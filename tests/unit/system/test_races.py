"""What another user's processes change while the runner works there leads it nowhere else."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path

from pacifica_notifications_consumer.engines.output import Output
from pacifica_notifications_consumer.jobs.directory import JobDirectory
from pacifica_notifications_consumer.jobs.files import read_note
from pacifica_notifications_consumer.jobs.unsent import describe_unsent
from pacifica_notifications_consumer.system.account import Account
from tests.support.machine.other_user import NOBODY, as_root, python_for_all
from tests.support.machine.waiting import DEADLINE

pytestmark = as_root
CANARY = '{"canary": {"files_total": 7}}'

#: Replaces what a job's directories hold by links to a file or a directory, pipes, other directories, and back, for
#: ever, as a process of an earlier attempt or of `init.sh` could that was not found.
SWAPPER = """
import itertools, os, random, shutil, sys
job, precious = sys.argv[1:]
names = ["incoming/notification.json", "incoming/downloads", "outgoing/uploads", "outgoing/uploads/a", "incoming",
         "outgoing/upload-1.jsonl", "progress/progress.json", "progress/failure.txt", "outgoing", "output.log"]
makers = [lambda path: os.symlink(precious, path), lambda path: os.symlink(os.path.dirname(precious), path), os.mkfifo,
          lambda path: os.link(precious, path), os.mkdir, lambda path: open(path, "w").write('{"upload": {}}')]
for number in itertools.count():
    path = f"{job}/{random.choice(names)}"
    for act in (os.unlink, shutil.rmtree, random.choice(makers)):
        try:
            act(path)
        except OSError:
            pass
    if number == 1000:
        print("swapping", flush=True)
"""


def test_links_that_are_put_there_meanwhile(place: Path) -> None:
    """A process of the user that swaps files for links and pipes while a job is prepared, read and trimmed."""
    account = Account.find(NOBODY)
    (place / "ours").mkdir(mode=0o700)
    precious = place / "ours" / "precious"
    precious.write_text(CANARY)
    before = precious.stat()
    job = JobDirectory(place / "1", account)
    job.prepare(b"{}", ["a"])
    program = [python_for_all(), "-c", SWAPPER, str(job.path), str(precious)]
    swapper = subprocess.Popen(program, stdout=subprocess.PIPE, text=True, **account.popen_arguments())
    assert swapper.stdout
    try:
        assert swapper.stdout.readline() == "swapping\n"
        for _ in range(100):
            # The job fails, as it would without a race.
            with contextlib.suppress(OSError):
                job.prepare(b"overwritten", ["a", "a/b"])
            assert "canary" not in read_note(job.progress)
            with contextlib.suppress(OSError):
                describe_unsent(job)
            output = Output(job.output, 1000, account)
            with output.open() as file:
                file.write(b"x" * 20_000)
            output.trim()
            assert "canary" not in output.finish()
        assert swapper.poll() is None
    finally:
        swapper.kill()
        swapper.wait(DEADLINE)
        swapper.stdout.close()
    assert sorted(path.name for path in (place / "ours").iterdir()) == ["precious"]
    after = precious.stat()
    assert precious.read_text() == CANARY
    assert (after.st_uid, after.st_mode, after.st_nlink) == (before.st_uid, before.st_mode, before.st_nlink)
