"""Panels of the module; only these files need Qt."""
