"""The settings that limit what jobs and archives may cost, and what programs may become."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pacifica_notifications_consumer.archive.archive import ArchiveLimits
from pacifica_notifications_consumer.jobs.limits import JobLimits
from pacifica_notifications_consumer.settings.converters import count, count_limit, size, size_limit, switch
from pacifica_notifications_consumer.settings.option import Option

_ARCHIVE = ArchiveLimits()

ARCHIVE_ENTRIES = Option(
    name="archive_entries",
    help="files and folders that a consumer archive may have: each costs time and a place on the disk, however small",
    convert=count,
    default=_ARCHIVE.entries,
    metavar="N",
)
ARCHIVE_SIZE = Option(
    name="archive_size",
    help="bytes that they may have together when extracted, such as 2G: TMPDIR must have room for them",
    convert=size,
    default=_ARCHIVE.size,
    metavar="BYTES",
)
ARCHIVE_RATIO = Option(
    name="archive_ratio",
    help="how many times larger than in the archive a file above 1 MiB may be: text hardly shrinks to less than a "
    "hundredth, gigabytes of zeros do",
    convert=count,
    default=_ARCHIVE.ratio,
    metavar="N",
)
JOB_MEMORY = Option(
    name="job_memory",
    help="bytes that each process of a job may hold by itself, such as 8G; beyond them it gets no more; 0 for any "
    "number",
    convert=size_limit,
    metavar="BYTES",
)
JOB_CPU = Option(
    name="job_cpu",
    help="seconds of a processor that each process of a job may take; then a signal ends it; 0 for any number",
    convert=count_limit,
    metavar="SECONDS",
)
JOB_PROCESSES = Option(
    name="job_processes",
    help="how many processes the user may have, those of other jobs and programs among them, before a job can start no "
    "more; not for root; 0 for any number",
    convert=count_limit,
    metavar="N",
)
JOB_FILE_SIZE = Option(
    name="job_file_size",
    help="bytes that a file may have that a job writes, such as 100G; 0 for any number",
    convert=size_limit,
    metavar="BYTES",
)
ALLOW_NEW_PRIVILEGES = Option(
    name="allow_new_privileges",
    help="let init.sh and entry-points run programs that give them more rights, such as sudo",
    convert=switch,
    default=False,
    metavar=None,
)

RUN_AS = Option(
    name="run_as",
    help="the user of this machine as whom init.sh, the installer and entry-points run, so that they can reach neither "
    "the consumer's secrets nor its queue; only root can do that (default: who runs the command)",
    metavar="USER",
)

#: What the consumer's own code may do.
PRIVILEGE_OPTIONS = (ALLOW_NEW_PRIVILEGES, RUN_AS)
ARCHIVE_OPTIONS = (ARCHIVE_ENTRIES, ARCHIVE_SIZE, ARCHIVE_RATIO)
LIMIT_OPTIONS = (JOB_MEMORY, JOB_CPU, JOB_PROCESSES, JOB_FILE_SIZE)


def archive_limits(settings: Mapping[str, Any]) -> ArchiveLimits:
    """What an archive may cost, as the settings say."""
    return ArchiveLimits(
        entries=settings["archive_entries"], size=settings["archive_size"], ratio=settings["archive_ratio"]
    )


def job_limits(settings: Mapping[str, Any]) -> JobLimits:
    """What each process of a job may use, as the settings say."""
    return JobLimits(
        memory=settings["job_memory"],
        cpu=settings["job_cpu"],
        processes=settings["job_processes"],
        file_size=settings["job_file_size"],
    )
