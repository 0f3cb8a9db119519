"""The virtual environment of a consumer: building, caching and removing it."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .builder import VenvBuilder
    from .cache import CacheLimits, VenvCache
    from .venv import Venv
else:
    from ..exports import lazy

    __getattr__, __dir__ = lazy(__name__, builder="VenvBuilder", cache="CacheLimits VenvCache", venv="Venv")

__all__ = ["CacheLimits", "Venv", "VenvBuilder", "VenvCache"]
