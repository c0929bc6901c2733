"""Prepare the data sets that users download; look for broken files."""
