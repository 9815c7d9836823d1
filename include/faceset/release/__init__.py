"""What a run sealed, and which release is in place."""
