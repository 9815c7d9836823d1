"""From face exports to a sealed training set: plain Python, one module a step of the DAG.

The story, in the order in which a file of an export meets it::

    dataset, params   what a user declares, and what a run may change
    preflight         cheap refusals before any work
    scan              export   -> manifest/export=E/shard=K.parquet
    filter_manifest   manifest -> selected/shard=K.parquet
    copy_shard        selected -> files in the merged dataset, copied/shard=K.parquet
    seal              copied   -> the release: manifest, ledger, class index, release id
    render_config     release  -> <dataset>_imagefolder.py for the trainer
    summary           release  -> SUMMARY.md and summary.json

Below them: ``run`` (where a run keeps its things), ``ledger`` (one row a file, one outcome a row),
``names`` (what may be called what), ``images`` (what an image file is), ``tables`` (Parquet in and
out), ``files`` (atomic writes). Nothing here knows Airflow or S3.
"""
