"""From face exports to a sealed training set: plain Python that knows neither Airflow nor S3.

The story, in the order in which a file of an export meets it. Each step is one module of ``steps``::

    preflight    cheap refusals before any work
    scan         export -> manifest; of an export in parts a manifest for each part, which stays
    forget       the people to erase go out of all that earlier runs left
    select       manifest -> selected/shard=K.parquet: identities with enough images
    copy         selected -> files in the merged dataset, if it lies on a disk, and copied/shard=K.parquet
    restore      the same, where a run rolls back to a kept release
    seal         copied -> the release: manifest, ledger, class index, release id
    publish      the bucket is proven; then it says which release it holds
    pack         release -> train.rec and train.idx, where the dataset has the form `record`
    erase        the people to erase go out of the bucket too, and a receipt says so
    render       release -> <dataset>_imagefolder.py, <dataset>_record.py for the trainer
    summarise    release -> SUMMARY.md and summary.json
    retire       releases that are too old go

The rooms that they draw on, lowest first: ``ground``, ``declared``, ``run``, ``exports``, ``images``, ``release``,
``output``, ``records``, ``training``, ``figures``, ``erasure``, ``report``, ``show``; a room imports lower ones only
(tests/unit/test_layers.py).

Words::

    export          one source of images with a declared layout
    part            what came of an export on one date
    identity        one person's label
    shard           the identities whose crc32 has the same remainder
    manifest        the rows of what a scan found
    ledger          one row for every file that the scan met, with its one outcome
    merged dataset  the ImageFolder at `output`, and nothing else
    release         what a run sealed, named by a digest of its keys and SHA-256s
    pointer         latest.json, which says what release is in place
    owner           the run that works on an output; its turn is a number higher than all before
    attempt         one try of a task
    label           an identity's class number, for good; its index is what ImageFolder counts
    records         a release as two files, in the record form of MXNet
    people          those on the list of people to erase
    decision        what somebody decided about an identity or an image, for all later runs

``ports`` says what a step needs of a source and of a bucket; whoever starts a step hands it these.
"""

import os

# Arrow's own allocator keeps what is freed: filtering the reference run took 330 MB with it and 170 MB with malloc, no
# slower. Arrow reads this when it is first loaded, which is later: a DAG file loads none of it.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
