"""Proof with the trainer's own code: what `make trainer` runs in an environment of the trainer's."""
