"""Filtering notifications by a JSONPath, with the semantics of jsonpath2."""
