"""Settings: how they are declared and read, and the settings of the Pacifica services."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .services import Services
else:
    from ..exports import lazy

    __getattr__, __dir__ = lazy(__name__, services="Services")

__all__ = ["Services"]
