"""A network's inside: layers, feature grids, and running only what comes after a layer."""
