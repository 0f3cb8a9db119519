"""What operators see of a consumer and do about its jobs: a JSON API, and a page for people on top of it."""
