"""What the units of a network respond to."""
