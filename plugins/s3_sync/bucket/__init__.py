"""One way to reach a bucket, and what its server can do."""
