"""What of an untrusted model may be read, and what may be built."""
