"""What can go wrong with the embedded Airflow."""


class StackError(RuntimeError):
    """Airflow did not start, or one of its parts ended; the message holds the end of its log."""
