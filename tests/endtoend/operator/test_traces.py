"""A trace goes from the producer's request through the entry-point to what it asks of Pacifica."""

from __future__ import annotations

from pathlib import Path

from pacifica_notifications_consumer.jobs.job import JobState
from pacifica_notifications_consumer.testing.sandbox import Sandbox
from tests.endtoend.conftest import Deployment, Operator, event, pack
from tests.endtoend.recorder import recording


def test_a_trace_goes_through_to_ingest(
    operator: Operator, sandbox: Sandbox, tmp_path: Path, quick_python: Path
) -> None:
    """What the request with a notification says of its trace, ingest is told with the upload that comes of it."""
    source = (
        "import sys\nfrom pacifica_notifications_consumer import upload\n"
        "open(sys.argv[2] + '/uploads/a.txt', 'w').write('a')\n"
        "rows = {'Transactions.submitter': 10, 'Transactions.project': '1234a', 'Transactions.instrument': 54}\n"
        "upload(sys.argv[2], rows)\n"
    )
    archive = pack(tmp_path / "consumer.zip", {"__main__.py": source})
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    # It refuses what it is sent: only what the request carries matters.
    with recording(lambda _: (400, b"{}", "application/json")) as recorder:
        flags = ("--python", quick_python, "--ingest-url", recorder.url)
        deployment = Deployment(operator, sandbox, archive, *flags)
        deployment.post(event(1), traceparent=f"00-{trace}-00f067aa0ba902b7-01")
        deployment.job(1, JobState.DEAD)
        deployment.command.stop()
        told = [request.headers.get("traceparent", "") for request in recorder.requests]
    assert told
    assert {each.split("-")[1] for each in told} == {trace}
    assert "00f067aa0ba902b7" not in "".join(told)
