"""From face exports to a sealed training set: plain Python, one module a step of the DAG.

The story, in the order in which a file of an export meets it::

    dataset, params   what a user declares, and what a run may change
    preflight         cheap refusals before any work
    owner, turns      one run at a time works on an output, and only the one that began last changes it
    suppressed        the list of people to erase, and which rows name one of them
    scan, parts       export   -> manifest; of an export in parts, a manifest for each part, which stays
    erase, receipt    people go out of all that earlier runs left, and a receipt says so
    filter_manifest   manifest -> selected/shard=K.parquet
    copy_shard        selected -> files in the merged dataset, if it lies on a disk, copied/shard=K.parquet
    restore_shard     the same, where a run rolls back to a kept release
    seal              copied   -> the release: manifest, ledger, class index, release id
    render_config     release  -> <dataset>_imagefolder.py for the trainer
    summary, changes  release  -> SUMMARY.md and summary.json, compared with the release before

Below them: ``run`` (where a run keeps its things), ``release`` (what is kept of a sealed one),
``ledger`` (one row a file, one outcome a row), ``unchanged`` (what need not be looked at again),
``removed`` (bytes that only an older release holds), ``attempt`` (tries of a task that must not mix),
``names`` (what may be called what), ``images`` (what an image file is), ``tables`` and ``sharded``
(Parquet in and out), ``merge`` (what must be known over all shards), ``files`` (atomic writes), ``source``
(what is asked of an export in S3) and ``ahead`` (its bytes, fetched before they are needed).
Nothing here knows Airflow or S3: who starts a step hands it the sources.
"""

import os

# Arrow's own allocator keeps what is freed: filtering the reference run took 330 MB with it and 170 MB with malloc, no
# slower. Arrow reads this when it is first loaded, which is later: a DAG file loads none of it.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
