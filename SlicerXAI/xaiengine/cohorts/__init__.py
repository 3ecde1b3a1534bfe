"""One task over many scans: where cases come from, who does them, and what a study reads at the end."""
