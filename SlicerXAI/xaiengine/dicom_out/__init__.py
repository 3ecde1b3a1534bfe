"""Results as DICOM objects: segmentations, parametric maps and a measurement report."""
