"""What a person is shown of releases: which there are, where a file went, and faces side by side."""
