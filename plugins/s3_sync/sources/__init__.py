"""Where the bytes come from: exports in S3, read as they were listed."""
