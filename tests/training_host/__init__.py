"""What a training host does with what was published, with its own tools."""
