"""The consumer archive: packing, extracting and checking."""
