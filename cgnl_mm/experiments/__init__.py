"""Train grids of configs with several seeds, and compare them fairly."""
