"""Explaining segmentation models: choosing targets, running methods through windows, reporting."""
