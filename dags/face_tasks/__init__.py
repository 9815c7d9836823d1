"""What the DAG files wire together: the tasks, the run that they belong to, how they are tried again, the runbook."""
