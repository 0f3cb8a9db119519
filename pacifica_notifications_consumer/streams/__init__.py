"""Streams: reading tars, writing JSON, hashing, and the progress of transfers."""
