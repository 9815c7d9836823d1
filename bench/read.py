"""Read every image of a folder of classes, in a drawn order, or of two files of records: `read.py <form> <folder>`."""

import os
import random
import struct
import sys

form, folder = sys.argv[1:]
total = 0
if form == "records":
    with open(f"{folder}/train.rec", "rb", buffering=1 << 20) as file:
        while head := file.read(8):
            length = struct.unpack("<II", head)[1] & (1 << 29) - 1
            total += len(file.read(length + -length % 4))
else:
    paths = [f"{one.path}/{name}" for one in os.scandir(folder) for name in os.listdir(one.path)]
    random.Random(0).shuffle(paths)
    for path in paths:
        with open(path, "rb") as file:
            total += len(file.read())
print(total)
