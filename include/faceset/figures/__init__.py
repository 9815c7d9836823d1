"""The figures of a release as charts and HTML: for its report, and for the pages in Airflow."""
