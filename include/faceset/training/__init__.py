"""What the trainer makes of the counts, and the config that tells it."""
