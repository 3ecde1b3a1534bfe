"""Pictures of scans, maps, curves, bars and series."""
