"""The rules of receiving notifications, for any server and any web framework."""
