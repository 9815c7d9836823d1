"""Bring an S3 prefix into exactly a given state, and prove it.

Every module holds one idea; ``sync`` is the verb, ``operators`` its Airflow form. Importing this package or
``operators`` loads neither boto3 nor pyarrow nor obstore, so a DAG file that uses them stays cheap to parse.
"""
