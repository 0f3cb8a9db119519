"""Finding transactions that nobody announced."""
