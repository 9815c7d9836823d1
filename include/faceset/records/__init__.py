"""A release in two files that a training host downloads in one go: all images, in the record form of MXNet."""
