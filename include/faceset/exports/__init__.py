"""What lies in an export, on a disk or in S3, and the manifests of its parts."""
