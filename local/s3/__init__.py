"""The embedded S3 server, and the connection of Airflow to it."""
