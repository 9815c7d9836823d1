"""What lies under a prefix: keys, versions, and what is archived."""
