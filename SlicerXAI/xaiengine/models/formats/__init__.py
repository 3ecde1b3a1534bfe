"""One file for each format in which models come."""
