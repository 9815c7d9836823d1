# The official image, with what the project's DAGs need at the versions of its lock.
FROM apache/airflow:3.3.2-python3.11

# Named volumes take their owner from the folder they first cover.
USER root
RUN install -d -o airflow -g 0 -m 775 /data/merged /scratch
USER airflow

COPY requirements.txt requirements.lock /tmp/
# The lock holds hashes, which pip does not take in constraints: only its versions are used.
RUN grep -oE '^[A-Za-z0-9][^ ;]*==[^ ;]+' /tmp/requirements.lock > /tmp/constraints.txt \
    && pip install --no-cache-dir --requirement /tmp/requirements.txt --constraint /tmp/constraints.txt \
    && pip check
