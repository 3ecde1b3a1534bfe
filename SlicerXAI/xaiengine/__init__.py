"""Explains deep-learning models on medical scans; knows torch and MONAI and nothing of 3D Slicer."""

__version__ = "0.1.0"
__all__ = ["__version__"]
