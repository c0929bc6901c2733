"""Data sets. Nothing is imported here: the host classes need their host."""
