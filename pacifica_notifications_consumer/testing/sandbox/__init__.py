"""An embedded Pacifica for authors without access to a real one, and for tests.

It has the HTTP APIs of the producer, cartd, ingest and policy, and keeps its archive in a directory.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .sandbox import Sandbox, sandbox_environ
else:
    from ...exports import lazy

    __getattr__, __dir__ = lazy(__name__, sandbox="Sandbox sandbox_environ")

__all__ = ["Sandbox", "sandbox_environ"]
