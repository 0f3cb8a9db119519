"""Clients of the Pacifica services, a module each, with a common session."""

__all__ = ()
