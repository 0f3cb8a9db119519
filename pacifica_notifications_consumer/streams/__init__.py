"""Data that streams: tars, JSON, digests, and how far a transfer is."""
