"""Clients of the Pacifica services, one module each, over one kind of session."""

__all__ = ()
