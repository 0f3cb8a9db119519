"""Leases: how long a worker's claim of a job holds, and how often `maintenance` renews it.

A claim gives a job a new random token and a lease. Each later change names the token (`WHERE id = ? AND token = ?`) and
is refused (`LeaseLost`) when the job has another one by then, so a result is recorded at most once::

    seconds     0           15          30          37
    worker      claim ───────────── runs ─────────── end_attempt        token 3f9a, then none
    maintenance             renew       renew
    lease to    60          75          90          none
    state       running ──────────────────────────── succeeded, failed (another attempt is due), or dead

    worker      claim ── bug in the worker: the lease is not renewed any more
    maintenance          lease has expired: recover (crashes + 1; queued again, or dead if over the limit)

The start after a kill -9 does not wait for leases to expire, see `recovery`. Attempts and crashes are counted
separately (`attempts`, `crash_limit`); a stop counts as neither.
"""

#: Seconds until a claim expires, and between two renewals of all claims.
LEASE = 60.0
RENEWAL = LEASE / 4
