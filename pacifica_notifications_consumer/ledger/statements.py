"""The SQL statements of the ledger, except those in `arrivals` and `coverage`."""

from __future__ import annotations

from ..jobs.job import JobState, Verdict

_WAITING = "state IN ('queued', 'failed')"
_INDEXED = {JobState.QUEUED: _WAITING, JobState.FAILED: _WAITING, JobState.RUNNING: "true"}
_ASIDE = "verdict IN ('undecidable', 'malformed', 'unreadable')"
BODY_FILES = "SELECT body_file FROM notifications WHERE body_file IS NOT NULL"
# Jobs of delivered notifications run before jobs of recovered ones.
NEXT_JOB = """
SELECT * FROM (SELECT id FROM jobs WHERE origin = 'delivered' AND state IN ('queued', 'failed') AND due_at <= ?
    ORDER BY due_at, id LIMIT 1)
UNION ALL
SELECT * FROM (SELECT id FROM jobs WHERE origin = 'recovered' AND state IN ('queued', 'failed') AND due_at <= ?
    ORDER BY due_at, id LIMIT 1)
LIMIT 1
"""
JOB = """
SELECT jobs.id, title, received_at, traceparent, jobs.origin, state, attempts, deferrals, crashes, token, started_at,
    ended_at, exit_status, jobs.reason, cpu_seconds, peak_memory, output_tail, progress, task, worker, directory
FROM jobs JOIN notifications ON notifications.id = notification_id
"""
ONE_JOB = f"{JOB} WHERE jobs.id = ?"
NEWEST_JOBS = f"{JOB} WHERE jobs.id < ? ORDER BY jobs.id DESC LIMIT ?"


def _of_state(state: JobState, condition: str) -> str:
    """Select the jobs in a state that satisfy a condition on ``{id}``, by means of the state's partial index.

    SQLite uses a partial index only if the statement repeats the index's condition. The indexes of waiting and running
    jobs are not in the order of ``id``: the unary plus keeps SQLite from scanning all jobs in that order instead (see
    https://www.sqlite.org/optoverview.html).
    """
    number = "+jobs.id" if state in _INDEXED else "jobs.id"
    return f"{JOB} WHERE {_INDEXED.get(state, 'true')} AND state = '{state.value}' AND {condition.format(id=number)}"


NEWEST_JOBS_IN_STATE = {state: _of_state(state, "{id} < ? ORDER BY {id} DESC LIMIT ?") for state in JobState}
_OF_A_TIME = "{id} BETWEEN ? AND ? AND received_at BETWEEN ? AND ? ORDER BY {id} LIMIT ?"
ENDED_JOBS = f"{JOB} WHERE state NOT IN ('queued', 'running') AND {_OF_A_TIME.format(id='jobs.id')}"
ENDED_JOBS_IN_STATE = {state: _of_state(state, _OF_A_TIME) for state in JobState}
DONE_BY_MINUTE = """
SELECT CAST(ended_at AS INTEGER) / 60 * 60, count(*) FROM jobs
WHERE state IN ('succeeded', 'cancelled') AND ended_at >= ? GROUP BY 1
"""
DEAD_BY_MINUTE = """
SELECT CAST(ended_at AS INTEGER) / 60 * 60, count(*) FROM jobs WHERE state = 'dead' AND ended_at >= ? GROUP BY 1
"""
_NOTIFICATION = """
SELECT notifications.id, received_at, source, event_id, title, verdict, notifications.reason, notifications.origin,
    body IS NOT NULL OR body_file IS NOT NULL, traceparent, jobs.id
FROM notifications LEFT JOIN jobs ON jobs.notification_id = notifications.id
"""
ONE_NOTIFICATION = f"{_NOTIFICATION} WHERE notifications.id = ?"
NEWEST_NOTIFICATIONS = f"{_NOTIFICATION} WHERE notifications.id < ? ORDER BY notifications.id DESC LIMIT ?"
NEWEST_OF_VERDICT = {
    verdict: f"{_NOTIFICATION} WHERE {_ASIDE if verdict.set_aside else 'true'} AND verdict = '{verdict.value}' "
    "AND notifications.id < ? ORDER BY notifications.id DESC LIMIT ?"
    for verdict in Verdict
}
BODY_OF_NOTIFICATION = "SELECT body, body_file FROM notifications WHERE id = ?"
HIGHEST_NOTIFICATION = "SELECT coalesce(max(id), 0) FROM notifications"
NEXT_NOTIFICATION = "SELECT id, received_at FROM notifications WHERE id >= ? ORDER BY id LIMIT 1"
BODY_OF_JOB = "SELECT body, body_file FROM notifications WHERE id = (SELECT notification_id FROM jobs WHERE id = ?)"
NEXT_DUE = """
SELECT min(due_at) FROM (
    SELECT min(due_at) AS due_at FROM jobs WHERE origin = 'delivered' AND state IN ('queued', 'failed')
    UNION ALL
    SELECT min(due_at) FROM jobs WHERE origin = 'recovered' AND state IN ('queued', 'failed')
)
"""
START_JOB = """
UPDATE jobs SET state = 'running', token = ?, lease_until = ?, started_at = ?, ended_at = NULL, progress = '',
    task = ?, worker = '', directory = ''
WHERE id = ? AND task IS NULL
"""
# A job that was handed out went on elsewhere, so the time of its beginning stays.
RESUME_JOB = "UPDATE jobs SET state = 'running', token = ?, lease_until = ? WHERE id = ? AND task IS NOT NULL"
NOTE_PLACE = "UPDATE jobs SET worker = ?, directory = ?, started_at = ? WHERE id = ? AND token = ?"
HANDED_OUT = "SELECT id, state, task FROM jobs WHERE task IS NOT NULL"
TAKE_IN = "UPDATE jobs SET task = NULL WHERE id = ? AND task = ?"
RENEW_LEASE = "UPDATE jobs SET lease_until = ? WHERE id = ? AND token = ?"
NOTE_PROGRESS = "UPDATE jobs SET progress = ? WHERE id = ? AND token = ?"
END_ATTEMPT = """
UPDATE jobs SET state = ?, token = NULL, lease_until = NULL, task = NULL, attempts = attempts + ?,
    deferrals = deferrals + ?, due_at = ?, ended_at = ?, exit_status = ?, reason = ?, cpu_seconds = ?,
    peak_memory = ?, output_tail = ?
WHERE id = ? AND token = ?
"""
_BACK = "UPDATE jobs SET state = 'queued', token = NULL, lease_until = NULL"
HAND_BACK = f"{_BACK} WHERE id = ? AND token = ?"
PUT_OFF = f"{_BACK}, due_at = ?, reason = ? WHERE id = ? AND token = ?"
HAND_BACK_ENDED = f"{_BACK}, task = NULL WHERE id = ? AND token = ?"
CLAIMED_JOB = "SELECT id, crashes FROM jobs WHERE id = ? AND token = ?"
ABANDONED = "SELECT id, crashes FROM jobs WHERE state = 'running' AND coalesce(lease_until, 0) <= ? AND task IS NULL"
# Jobs that were handed out survive the death of the runner.
LEAVE_HANDED_OUT = f"{_BACK} WHERE state = 'running' AND coalesce(lease_until, 0) <= ? AND task IS NOT NULL"
COUNT_CRASH = """
UPDATE jobs SET state = ?, token = NULL, lease_until = NULL, task = NULL, crashes = crashes + 1, ended_at = ?,
    reason = ?
WHERE id = ?
"""
CANCEL = "UPDATE jobs SET state = 'cancelled', ended_at = ?, reason = ? WHERE id = ? AND state IN ('queued', 'failed')"
REQUEUE = """
UPDATE jobs SET state = 'queued', attempts = 0, deferrals = 0, crashes = 0, due_at = ?
WHERE id = ? AND state NOT IN ('queued', 'running')
"""
DONE_BEFORE = "SELECT id FROM jobs WHERE state IN ('succeeded', 'cancelled') AND ended_at < ? ORDER BY ended_at LIMIT ?"
DEAD_BEFORE = "SELECT id FROM jobs WHERE state = 'dead' AND ended_at < ? ORDER BY ended_at LIMIT ?"
OLDEST_DONE = "SELECT id FROM jobs WHERE state IN ('succeeded', 'cancelled') ORDER BY ended_at LIMIT ?"
FINISHED_JOB = """
SELECT notification_id, body_file FROM jobs JOIN notifications ON notifications.id = notification_id
WHERE jobs.id = ? AND state IN ('succeeded', 'cancelled', 'dead')
"""
FORGET_JOB = "DELETE FROM jobs WHERE id = ?"
FORGET_BODY = "UPDATE notifications SET body = NULL, body_file = NULL WHERE id = ?"
SET_ASIDE_BEFORE = """
SELECT id, body_file FROM notifications
WHERE verdict IN ('undecidable', 'malformed', 'unreadable') AND (body IS NOT NULL OR body_file IS NOT NULL)
    AND received_at < ? LIMIT ?
"""
ADD_INCIDENT = "INSERT INTO incidents (kind, since, until, detail) VALUES (?, ?, ?, ?)"
NEWEST_INCIDENTS = "SELECT kind, since, until, detail FROM incidents ORDER BY id DESC LIMIT ?"
TALLY = "SELECT word, number FROM tally WHERE kind = ?"
