"""Is a map true? Measures of how well an explanation fits the model that it explains."""
