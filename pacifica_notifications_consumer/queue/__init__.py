"""The job queue: workers, recovery, maintenance, and the queries of operators."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .histograms import Distribution, Histogram, Histograms
    from .job_book import JobBook, Selection
    from .job_runner import JobRunner
    from .prometheus import write_metrics
else:
    from ..exports import lazy

    __getattr__, __dir__ = lazy(
        __name__,
        histograms="Distribution Histogram Histograms",
        job_book="JobBook Selection",
        job_runner="JobRunner",
        prometheus="write_metrics",
    )

__all__ = ["Distribution", "Histogram", "Histograms", "JobBook", "JobRunner", "Selection", "write_metrics"]
