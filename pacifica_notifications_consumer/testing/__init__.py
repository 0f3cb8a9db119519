"""Tools for testing consumers: an embedded Pacifica and a pytest plugin."""
