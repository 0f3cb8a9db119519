"""The job queue: workers, maintenance, and what operators ask of it."""
