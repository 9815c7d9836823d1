"""What can go wrong with the embedded S3 server."""


class SeaweedError(RuntimeError):
    """The embedded S3 server could not be started."""
