# Airflow's official image without providers, with what the project needs at the versions of its lock, and its code.
FROM apache/airflow:slim-3.3.2-python3.11

# Named volumes take their owner from the folder they first cover.
USER root
RUN install -d -o airflow -g 0 -m 775 /data/merged /scratch
USER airflow

COPY requirements.txt requirements-cluster.txt requirements.lock /tmp/
# The lock holds hashes, which pip does not take in constraints: only its versions are used.
RUN grep -oE '^[A-Za-z0-9][^ ;]*==[^ ;]+' /tmp/requirements.lock > /tmp/constraints.txt \
    && pip install --no-cache-dir --constraint /tmp/constraints.txt \
        --requirement /tmp/requirements.txt --requirement /tmp/requirements-cluster.txt \
    && pip check

# include/ is imported from the project root, plugins by their own names. Compose mounts the checkout's over these.
COPY dags /opt/airflow/dags
COPY include /opt/airflow/include
COPY plugins /opt/airflow/plugins
ENV PYTHONPATH=/opt/airflow:/opt/airflow/plugins
