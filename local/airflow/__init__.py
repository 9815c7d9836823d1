"""The embedded Airflow: its processes, its settings, its API."""
