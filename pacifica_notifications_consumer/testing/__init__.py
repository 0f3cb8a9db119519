"""Testing consumers: a sandbox of Pacifica, and a plugin of pytest."""
