"""The tables of the ledger, as a sequence of migrations from an empty database."""

from __future__ import annotations

_NOTIFICATIONS_AND_JOBS = """
CREATE TABLE notifications (
    id INTEGER PRIMARY KEY,
    received_at REAL NOT NULL,      -- seconds since 1970, like all times
    source TEXT,
    event_id TEXT,
    title TEXT NOT NULL,
    verdict TEXT NOT NULL,
    reason TEXT NOT NULL,
    body BLOB                       -- as received, if it may be needed again
);
CREATE UNIQUE INDEX notifications_by_identity ON notifications (source, event_id) WHERE verdict <> 'duplicate';
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY,
    notification_id INTEGER NOT NULL UNIQUE REFERENCES notifications (id),
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    due_at REAL NOT NULL,           -- the earliest time of the next attempt
    started_at REAL,
    ended_at REAL,
    exit_status INTEGER,
    reason TEXT NOT NULL DEFAULT ''
);
CREATE INDEX jobs_by_state ON jobs (state, due_at, id);
"""

_PROGRESS = """
-- The progress of the last attempt's downloads and uploads, in JSON.
ALTER TABLE jobs ADD COLUMN progress TEXT NOT NULL DEFAULT '';
"""

_LEASES_AND_COUNTS = """
-- A large body is in a separate file: the database would write it twice, and all other writers would wait.
ALTER TABLE notifications ADD COLUMN body_file TEXT;
CREATE INDEX notifications_in_files ON notifications (body_file) WHERE body_file IS NOT NULL;
CREATE INDEX notifications_set_aside ON notifications (received_at)
    WHERE verdict IN ('undecidable', 'malformed', 'unreadable') AND (body IS NOT NULL OR body_file IS NOT NULL);

ALTER TABLE jobs ADD COLUMN token TEXT;         -- of the claim under which the job runs
ALTER TABLE jobs ADD COLUMN lease_until REAL;   -- the claim expires at this time, unless it is renewed
ALTER TABLE jobs ADD COLUMN deferrals INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN crashes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN cpu_seconds REAL;
ALTER TABLE jobs ADD COLUMN peak_memory INTEGER;            -- bytes
ALTER TABLE jobs ADD COLUMN output_tail TEXT NOT NULL DEFAULT '';
DROP INDEX jobs_by_state;
-- Partial indexes, so that a million finished jobs do not slow down the claim of the next job.
CREATE INDEX jobs_waiting ON jobs (due_at, id) WHERE state IN ('queued', 'failed');
CREATE INDEX jobs_running ON jobs (lease_until) WHERE state = 'running';
CREATE INDEX jobs_done ON jobs (ended_at) WHERE state IN ('succeeded', 'cancelled');
CREATE INDEX jobs_dead ON jobs (ended_at) WHERE state = 'dead';

CREATE TABLE incidents (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    since REAL,                     -- the last time at which the subscription was healthy, if known
    until REAL NOT NULL,
    detail TEXT NOT NULL
);

-- Counts are maintained by triggers, because counting a million rows takes long.
CREATE TABLE tally (
    kind TEXT NOT NULL,
    word TEXT NOT NULL,
    number INTEGER NOT NULL,
    PRIMARY KEY (kind, word)
) WITHOUT ROWID;
INSERT INTO tally SELECT 'verdict', verdict, count(*) FROM notifications GROUP BY verdict;
INSERT INTO tally SELECT 'job', state, count(*) FROM jobs GROUP BY state;
CREATE TRIGGER notification_added AFTER INSERT ON notifications BEGIN
    INSERT INTO tally VALUES ('verdict', new.verdict, 1) ON CONFLICT DO UPDATE SET number = number + 1;
END;
-- The job is added in the same statement as its notification, and has the same number, which is never used again.
CREATE TRIGGER notification_matched AFTER INSERT ON notifications WHEN new.verdict = 'matched' BEGIN
    INSERT INTO jobs (id, notification_id, state, due_at) VALUES (new.id, new.id, 'queued', new.received_at);
END;
CREATE TRIGGER job_added AFTER INSERT ON jobs BEGIN
    INSERT INTO tally VALUES ('job', new.state, 1) ON CONFLICT DO UPDATE SET number = number + 1;
END;
CREATE TRIGGER job_changed AFTER UPDATE OF state ON jobs WHEN new.state <> old.state BEGIN
    UPDATE tally SET number = number - 1 WHERE kind = 'job' AND word = old.state;
    INSERT INTO tally VALUES ('job', new.state, 1) ON CONFLICT DO UPDATE SET number = number + 1;
END;
CREATE TRIGGER job_removed AFTER DELETE ON jobs BEGIN
    UPDATE tally SET number = number - 1 WHERE kind = 'job' AND word = old.state;
END;
CREATE TRIGGER incident_added AFTER INSERT ON incidents BEGIN
    INSERT INTO tally VALUES ('incident', new.kind, 1) ON CONFLICT DO UPDATE SET number = number + 1;
END;
"""

_ORIGINS = """
ALTER TABLE notifications ADD COLUMN origin TEXT NOT NULL DEFAULT 'delivered';
ALTER TABLE jobs ADD COLUMN origin TEXT NOT NULL DEFAULT 'delivered';
DROP INDEX jobs_waiting;
CREATE INDEX jobs_waiting ON jobs (origin, due_at, id) WHERE state IN ('queued', 'failed');
DROP TRIGGER notification_matched;
CREATE TRIGGER notification_matched AFTER INSERT ON notifications WHEN new.verdict = 'matched' BEGIN
    INSERT INTO jobs (id, notification_id, state, due_at, origin)
        VALUES (new.id, new.id, 'queued', new.received_at, new.origin);
END;
CREATE TRIGGER notification_recovered AFTER INSERT ON notifications
WHEN new.origin = 'recovered' AND new.verdict = 'matched' BEGIN
    INSERT INTO tally VALUES ('missed', 'recovered', 1) ON CONFLICT DO UPDATE SET number = number + 1;
END;

-- Ranges of transactions to examine.
CREATE TABLE spans (
    id INTEGER PRIMARY KEY AUTOINCREMENT,   -- 0 is the span that ends at the newest transaction
    next INTEGER NOT NULL,          -- the first transaction that has not been examined
    last INTEGER NOT NULL
);
-- Examined transactions that policy did not know, or for which the request to policy failed.
CREATE TABLE gaps (
    transaction_id INTEGER PRIMARY KEY,
    since REAL NOT NULL,            -- the time of the first request
    ask_at REAL NOT NULL,           -- the time of the next request
    problem TEXT NOT NULL           -- why the request failed; empty if policy does not know the transaction
);
CREATE INDEX gaps_by_turn ON gaps (ask_at);
CREATE TABLE facts (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL             -- JSON
) WITHOUT ROWID;
"""

_LOOKING = """
ALTER TABLE notifications ADD COLUMN traceparent TEXT;  -- of the trace to which the notification belongs
-- For users' queries of rare states and verdicts.
CREATE INDEX jobs_dead_by_number ON jobs (id) WHERE state = 'dead';
CREATE INDEX jobs_cancelled_by_number ON jobs (id) WHERE state = 'cancelled';
CREATE INDEX notifications_aside_by_number ON notifications (id)
    WHERE verdict IN ('undecidable', 'malformed', 'unreadable');
"""

_OTHER_MACHINES = """
-- The name of a task that is handed out to other machines; set before that, and cleared with the result.
ALTER TABLE jobs ADD COLUMN task TEXT;
ALTER TABLE jobs ADD COLUMN worker TEXT NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN directory TEXT NOT NULL DEFAULT '';     -- on that machine
CREATE INDEX jobs_handed_out ON jobs (id) WHERE task IS NOT NULL;
"""

#: The migrations. A database of version N has had the first N of them applied.
STEPS = (_NOTIFICATIONS_AND_JOBS, _PROGRESS, _LEASES_AND_COUNTS, _ORIGINS, _LOOKING, _OTHER_MACHINES)
