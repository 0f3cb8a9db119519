"""CloudEvents: notifications, their versions and modes, and their validation."""
