"""Jobs: their states, directories and limits, and which notification gets one."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .directory import JobDirectory
    from .job import Ending, Fate, Job, JobState, NotificationRecord, Origin, Receipt, RemoteLocation, Verdict
    from .limits import JobLimits
    from .retention import Keep
else:
    from ..exports import lazy

    __getattr__, __dir__ = lazy(
        __name__,
        directory="JobDirectory",
        job="Ending Fate Job JobState NotificationRecord Origin Receipt RemoteLocation Verdict",
        limits="JobLimits",
        retention="Keep",
    )

__all__ = [
    "Ending",
    "Fate",
    "Job",
    "JobDirectory",
    "JobLimits",
    "JobState",
    "Keep",
    "NotificationRecord",
    "Origin",
    "Receipt",
    "RemoteLocation",
    "Verdict",
]
