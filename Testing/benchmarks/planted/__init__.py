"""Synthetic scans with known causes, and small models trained on them: the ground truth of the benchmarks."""
