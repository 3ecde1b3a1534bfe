"""Scans and segmentations: what they are, and how they are read, resampled and written."""
