"""From an attribution map to lesions: lungs, threshold, components, burden, severity."""
