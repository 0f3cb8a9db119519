"""The thin runner: commands that compose the library into a running consumer."""
