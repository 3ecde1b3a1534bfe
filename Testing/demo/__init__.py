"""Demos of the README, on real scans."""
