"""Settings: what one is, how its text becomes a value, and where the Pacifica services are."""
