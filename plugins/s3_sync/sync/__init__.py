"""The verb: bring a prefix into exactly the expected state."""
