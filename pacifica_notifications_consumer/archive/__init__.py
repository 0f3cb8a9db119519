"""A consumer's archive: extracting, packing and checking it."""
