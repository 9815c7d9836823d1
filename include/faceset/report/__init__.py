"""What happened to every file and what differs from before, as facts and as text."""
