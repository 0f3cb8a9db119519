"""The warm start: entry-points as forks of a process that has imported what they need."""

__all__ = ()
