"""Pages in Airflow's UI: what releases hold, where a file went, faces side by side, and what people decide of them."""
