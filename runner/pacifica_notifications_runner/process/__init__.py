"""The process of a command: signals, supervision, logs."""
