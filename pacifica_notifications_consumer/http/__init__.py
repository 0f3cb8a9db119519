"""The HTTP server of the endpoint, the status page and the sandbox."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .handler import Handler
    from .limits import ServerLimits
    from .server import Server, serve
else:
    from ..exports import lazy

    __getattr__, __dir__ = lazy(__name__, handler="Handler", limits="ServerLimits", server="Server serve")

__all__ = ["Handler", "Server", "ServerLimits", "serve"]
