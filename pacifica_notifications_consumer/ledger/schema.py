"""The ledger's tables, as the steps that lead from an empty database to them."""

from __future__ import annotations

_NOTIFICATIONS_AND_JOBS = """
CREATE TABLE notifications (
    id INTEGER PRIMARY KEY,
    received_at REAL NOT NULL,      -- seconds since 1970, as all times here
    source TEXT,
    event_id TEXT,
    title TEXT NOT NULL,
    verdict TEXT NOT NULL,
    reason TEXT NOT NULL,
    body BLOB                       -- as received, where it may be needed again
);
CREATE UNIQUE INDEX notifications_by_identity ON notifications (source, event_id) WHERE verdict <> 'duplicate';
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY,
    notification_id INTEGER NOT NULL UNIQUE REFERENCES notifications (id),
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    due_at REAL NOT NULL,           -- not to be run before
    started_at REAL,
    ended_at REAL,
    exit_status INTEGER,
    reason TEXT NOT NULL DEFAULT ''
);
CREATE INDEX jobs_by_state ON jobs (state, due_at, id);
"""

_PROGRESS = """
-- What the last attempt noted of its downloads and uploads, in JSON.
ALTER TABLE jobs ADD COLUMN progress TEXT NOT NULL DEFAULT '';
"""

_LEASES_AND_COUNTS = """
-- A large body stands in a file of its own: in the database it would be written twice, with everybody waiting.
ALTER TABLE notifications ADD COLUMN body_file TEXT;
CREATE INDEX notifications_in_files ON notifications (body_file) WHERE body_file IS NOT NULL;
CREATE INDEX notifications_set_aside ON notifications (received_at)
    WHERE verdict IN ('undecidable', 'malformed', 'unreadable') AND (body IS NOT NULL OR body_file IS NOT NULL);

ALTER TABLE jobs ADD COLUMN token TEXT;         -- of the claim under which it runs
ALTER TABLE jobs ADD COLUMN lease_until REAL;   -- the claim is void after that, unless renewed
ALTER TABLE jobs ADD COLUMN deferrals INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN crashes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN cpu_seconds REAL;
ALTER TABLE jobs ADD COLUMN peak_memory INTEGER;            -- bytes
ALTER TABLE jobs ADD COLUMN output_tail TEXT NOT NULL DEFAULT '';
DROP INDEX jobs_by_state;
-- Each holds only what is looked for, so that a million finished jobs cost the claim of the next one nothing.
CREATE INDEX jobs_waiting ON jobs (due_at, id) WHERE state IN ('queued', 'failed');
CREATE INDEX jobs_running ON jobs (lease_until) WHERE state = 'running';
CREATE INDEX jobs_done ON jobs (ended_at) WHERE state IN ('succeeded', 'cancelled');
CREATE INDEX jobs_dead ON jobs (ended_at) WHERE state = 'dead';

CREATE TABLE incidents (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    since REAL,                     -- the last time that all was well, if known
    until REAL NOT NULL,
    detail TEXT NOT NULL
);

-- To count a million rows takes a while, to read a number does not.
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
-- Together with its notification in one statement; of the same number, which is never given again.
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

-- Ranges of transactions that are to be looked at.
CREATE TABLE spans (
    id INTEGER PRIMARY KEY AUTOINCREMENT,   -- 0 is the one that follows the newest transaction
    next INTEGER NOT NULL,          -- those below have been looked at
    last INTEGER NOT NULL
);
-- Transactions in what was looked at that policy did not know, or could not tell of.
CREATE TABLE gaps (
    transaction_id INTEGER PRIMARY KEY,
    since REAL NOT NULL,            -- when it was first asked for
    ask_at REAL NOT NULL,           -- when it is asked for again
    problem TEXT NOT NULL           -- why policy could not tell; empty if it said that there is none
);
CREATE INDEX gaps_by_turn ON gaps (ask_at);
CREATE TABLE facts (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL             -- JSON
) WITHOUT ROWID;
"""

_LOOKING = """
ALTER TABLE notifications ADD COLUMN traceparent TEXT;  -- of the trace that it belongs to
-- For people who look for what is rare.
CREATE INDEX jobs_dead_by_number ON jobs (id) WHERE state = 'dead';
CREATE INDEX jobs_cancelled_by_number ON jobs (id) WHERE state = 'cancelled';
CREATE INDEX notifications_aside_by_number ON notifications (id)
    WHERE verdict IN ('undecidable', 'malformed', 'unreadable');
"""

_OTHER_MACHINES = """
-- What an attempt is called that was handed to other machines, from before it is until its result is written here.
ALTER TABLE jobs ADD COLUMN task TEXT;
ALTER TABLE jobs ADD COLUMN worker TEXT NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN directory TEXT NOT NULL DEFAULT '';     -- on that machine
CREATE INDEX jobs_handed_out ON jobs (id) WHERE task IS NOT NULL;
"""

#: A database of version N has the first N of them behind it; a new one goes through all.
STEPS = (_NOTIFICATIONS_AND_JOBS, _PROGRESS, _LEASES_AND_COUNTS, _ORIGINS, _LOOKING, _OTHER_MACHINES)
