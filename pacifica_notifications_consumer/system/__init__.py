"""The operating system: users, processes, files, logs."""
