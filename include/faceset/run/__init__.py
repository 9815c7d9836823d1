"""Where one run keeps its things, who may work on an output, and tries of a task that must not mix."""
