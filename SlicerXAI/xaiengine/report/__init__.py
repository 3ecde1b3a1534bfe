"""Results as a page that a radiologist reads: one HTML file, no network."""
