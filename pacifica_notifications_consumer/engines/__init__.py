"""Engines: what runs the attempts at jobs."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .engine import Attempt, Engine, RemoteEngine, Stop, Terms
else:
    from ..exports import lazy

    __getattr__, __dir__ = lazy(__name__, engine="Attempt Engine RemoteEngine Stop Terms")

__all__ = ["Attempt", "Engine", "RemoteEngine", "Stop", "Terms"]
