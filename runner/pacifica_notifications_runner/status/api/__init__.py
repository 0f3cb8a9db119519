"""The JSON API of the status page."""
