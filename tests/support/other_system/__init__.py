"""A system other than Linux, for tests of what has to work there, too."""
