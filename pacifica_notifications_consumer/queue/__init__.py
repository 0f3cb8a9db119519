"""The job queue: workers, maintenance, and what operators ask of it."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .histograms import Distribution, Histogram, Histograms
    from .job_book import JobBook, Selection
    from .job_runner import JobRunner
else:
    from ..exports import lazy

    __getattr__, __dir__ = lazy(
        __name__, histograms="Distribution Histogram Histograms", job_book="JobBook Selection", job_runner="JobRunner"
    )

__all__ = ["Distribution", "Histogram", "Histograms", "JobBook", "JobRunner", "Selection"]
