"""Networks of a config in use: prediction and export."""
