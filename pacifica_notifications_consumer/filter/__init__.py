"""Filtering notifications by a JSONPath, with the semantics of jsonpath2."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .explanation import Explanation, Step
    from .filter import Filter
else:
    from ..exports import lazy

    __getattr__, __dir__ = lazy(__name__, explanation="Explanation Step", filter="Filter")

__all__ = ["Explanation", "Filter", "Step"]
