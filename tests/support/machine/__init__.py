"""What tests need of a machine that is shared and busy: deadlines, ports, and an end for all that they start."""
