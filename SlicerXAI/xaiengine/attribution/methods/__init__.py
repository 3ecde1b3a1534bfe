"""The methods of attribution, one class a file; a new file here is found by itself."""
