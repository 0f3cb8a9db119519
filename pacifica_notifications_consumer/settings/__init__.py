"""Settings: what one is, how its text becomes a value, and where the Pacifica services are."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .services import Services
else:
    from ..exports import lazy

    __getattr__, __dir__ = lazy(__name__, services="Services")

__all__ = ["Services"]
