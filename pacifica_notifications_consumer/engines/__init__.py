"""Engines: what runs the attempts at jobs."""
