"""The status page: a JSON API for programs, and pages for people on top of it."""
