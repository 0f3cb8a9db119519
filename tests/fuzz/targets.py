"""What can be fuzzed.

A target is a context manager, so that what it needs is made once; it yields a function that makes one hostile input by
chance, tries it, and raises if something comes of it that must not.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from tests.fuzz import files, heads, job_files, warm, web
from tests.fuzz.good import Try

TARGETS: dict[str, Callable[[], contextlib.AbstractContextManager[Try]]] = {
    "http": web.http,
    "head": web.head,
    "notification": web.notification,
    "answers": web.answers,
    "archive": files.archive,
    "tar": files.tar,
    "jsonpath": files.jsonpath,
    "warm": warm.warm,
    "job-files": job_files.job_files,
    "h11": heads.beside_h11,
}
if heads.NGINX:
    TARGETS["nginx"] = heads.beside_nginx
