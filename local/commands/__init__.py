"""What the Makefile starts, one module a command."""
