"""That the bytes are there: compared, read back, and published."""
