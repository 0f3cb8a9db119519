"""The pages of the status page."""
