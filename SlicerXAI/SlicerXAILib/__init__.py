"""The Slicer side of SlicerXAI: nodes to job folders, the engine's process, results to nodes.

Nothing in this package imports torch: torch inside the Slicer application can end it.
"""
