"""An embedded Pacifica on one machine, for authors who have none at hand and for tests.

It speaks the wire formats of the producer, of cartd, ingest and policy, with an archive kept in a directory.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .sandbox import Sandbox, sandbox_environ
else:
    from ...exports import lazy

    __getattr__, __dir__ = lazy(__name__, sandbox="Sandbox sandbox_environ")

__all__ = ["Sandbox", "sandbox_environ"]
