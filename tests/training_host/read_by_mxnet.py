"""Run by MXNet's Python: read records as arcface_torch's MXFaceDataset does, and write them as MXNet does.

Prints label and SHA-256 of the pixels of each record, by key, and writes its own two files into a second folder.
"""

import json
import numbers
import sys
from pathlib import Path

import mxnet as mx

folder, own = Path(sys.argv[1]), Path(sys.argv[2])
rec = mx.recordio.MXIndexedRecordIO(str(folder / "train.idx"), str(folder / "train.rec"), "r")
written = mx.recordio.MXIndexedRecordIO(str(own / "train.idx"), str(own / "train.rec"), "w")
header, _ = mx.recordio.unpack(rec.read_idx(0))
assert header.flag == 0, "there is no header record"
found = {}
for key in list(rec.keys):
    header, image = mx.recordio.unpack(rec.read_idx(key))
    assert isinstance(header.label, numbers.Number)
    assert header.id == key
    pixels = mx.image.imdecode(image).asnumpy()
    found[key] = int(header.label), list(pixels.shape), pixels.tobytes().hex()
    written.write_idx(key, mx.recordio.pack(mx.recordio.IRHeader(0, header.label, key, 0), image))
written.close()
json.dump(found, sys.stdout)
