"""The virtual environment of a consumer: building, caching and removing it."""
