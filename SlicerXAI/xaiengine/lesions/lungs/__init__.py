"""Finds the lungs of a chest CT."""
