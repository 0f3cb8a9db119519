"""Downloading and uploading the files of transactions."""
