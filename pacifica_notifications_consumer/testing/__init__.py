"""Tools for testing consumers: an embedded Pacifica and a pytest plugin."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .consumer import Outcome, TriedConsumer
    from .instrument import send_files
    from .sandbox import Sandbox, sandbox_environ
else:
    from ..exports import lazy

    __getattr__, __dir__ = lazy(
        __name__, consumer="Outcome TriedConsumer", instrument="send_files", sandbox="Sandbox sandbox_environ"
    )

__all__ = ["Outcome", "Sandbox", "TriedConsumer", "sandbox_environ", "send_files"]
