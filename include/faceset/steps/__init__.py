"""The steps of the DAG, one module each. A step imports rooms, never another step."""
