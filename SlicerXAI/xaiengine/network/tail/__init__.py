"""Runs the part of a network that comes after a layer, and nothing else."""
