"""Chest X-rays with radiologists' scores of six lung zones: cases, a small regressor, its regional effect, scoring."""
