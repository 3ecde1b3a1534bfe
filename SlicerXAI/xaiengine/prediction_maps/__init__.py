"""Explanations of classifiers and regressors on a scan, from files to maps in the patient's coordinates."""
