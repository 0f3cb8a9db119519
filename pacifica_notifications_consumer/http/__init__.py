"""The HTTP server of the endpoint, the status page and the sandbox."""

__all__ = ()
