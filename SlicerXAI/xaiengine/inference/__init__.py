"""A scan as a network takes it: preprocessing and its inverse, whole, by slices or by windows."""
