"""The subscription at the producer: making, watching and repairing it."""
