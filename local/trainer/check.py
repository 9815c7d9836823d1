"""Run by the trainer's Python, in a copy of recognition/arcface_torch that has a release's configs among its own.

    python check.py <steps> <classes.parquet> <config name> …

For each config: the trainer's `get_config` (so the config's own check runs), its data loader (as many images, every
label, pixels as the image folder's loader gives them), real steps of its `main`, and its verification.
"""

import argparse
import itertools
import os
import sys
from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import distributed

SAMPLE = 200
"""Images whose pixels are compared."""
BATCH_ON_A_CPU = 8
ROUNDING = 3
"""How far two builds of libjpeg may be apart at a pixel."""


def say(line: str) -> None:
    print(line, flush=True)


class Stream:
    """In the place of a stream of a GPU."""

    def __init__(self, *_: object) -> None:
        pass

    def wait_stream(self, _: object) -> None:
        pass

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


class OnOneCpu(torch.nn.Module):
    """In the place of DistributedDataParallel."""

    def __init__(self, module: torch.nn.Module, **_: object) -> None:
        super().__init__()
        self.module = module

    def forward(self, *given: object) -> object:
        return self.module(*given)

    def register_comm_hook(self, *_: object) -> None:
        pass

    def _set_static_graph(self) -> None:
        pass


def without_a_gpu() -> None:
    """Let the trainer's code run on the CPU: what it asks of CUDA is answered by nothing, and listed."""
    begin = distributed.init_process_group
    tensor_to = torch.Tensor.to
    patches = {
        "torch.cuda.set_device": "nothing",
        "torch.cuda.Stream, stream, current_stream": "nothing",
        "Tensor.cuda, Module.cuda, Tensor.to(<number of a GPU>)": "the same, on the CPU",
        "distributed.init_process_group('nccl')": "gloo",
        "DistributedDataParallel(device_ids=[…]), its fp16 hook and static graph": "without them",
        "GradScaler": "without scaling",
    }

    torch.cuda.set_device = lambda _: None
    torch.cuda.Stream = Stream
    torch.cuda.stream = lambda _: Stream()
    torch.cuda.current_stream = lambda *_: Stream()
    torch.Tensor.cuda = lambda self, *_, **__: self
    torch.nn.Module.cuda = lambda self, *_: self
    torch.Tensor.to = lambda self, *given, **how: tensor_to(
        self, *("cpu" if type(one) is int else one for one in given), **_on_cpu(how)
    )
    distributed.init_process_group = lambda *_, **how: begin("gloo", **{k: v for k, v in how.items() if k != "backend"})
    torch.nn.parallel.DistributedDataParallel = OnOneCpu
    say("There is no GPU. Of what the trainer asks of one:")
    for what, instead in patches.items():
        say(f"  {what}: {instead}")


def _on_cpu(how: dict) -> dict:
    return {name: "cpu" if name == "device" and type(value) is int else value for name, value in how.items()}


def check_data(cfg, loader, classes) -> None:
    """Compare what the trainer's loader has with the release's classes."""
    data = loader.dataset
    assert len(data) == cfg.num_image, f"{len(data):,} images instead of {cfg.num_image:,}"
    by_number = "index" if hasattr(data, "targets") else "label"
    expected = dict(zip(classes[by_number].to_pylist(), classes["images"].to_pylist()))
    labels = data.targets if hasattr(data, "targets") else (int(data[at][1]) for at in range(len(data)))
    assert Counter(labels) == expected, "the labels are not those of classes.parquet"
    assert max(expected) < cfg.num_classes
    say(f"  {len(data):,} images, {len(expected):,} classes by `{by_number}` of classes.parquet, none another's")


def check_pixels(folder, records) -> None:
    """Compare pixels of both forms, image by image of some classes."""
    names = dict(zip(folder.classes["index"].to_pylist(), folder.classes["label"].to_pylist()))
    chosen = sorted(names)[:: max(1, len(names) // 50)]
    seen = {names[index]: [] for index in chosen}
    for at, label in enumerate(folder.data.targets):
        if label in chosen and sum(map(len, seen.values())) < SAMPLE:
            seen[names[label]].append(np.asarray(folder.data.loader(folder.data.samples[at][0])))
    of_records = {label: [] for label in seen}
    records.transform = lambda pixels: pixels
    for at in range(len(records)):
        pixels, label = records[at]
        if int(label) in seen:
            of_records[int(label)].append(np.asarray(pixels))
    compared = farthest = 0
    for label, images in seen.items():
        for image in images:
            far = min(int(np.abs(image.astype(int) - other.astype(int)).max()) for other in of_records[label])
            farthest, compared = max(far, farthest), compared + 1
    assert farthest <= ROUNDING, f"pixels differ by up to {farthest}"
    say(f"  {compared:,} images have the same pixels in both forms (farthest apart: {farthest} of 255)")


def train(name: str, cfg, steps: int) -> None:
    """Some steps of the trainer's own main, then its verification."""
    import train_v2
    from utils.utils_callbacks import CallBackVerification

    verified = []
    on_a_gpu = torch.cuda.is_available()
    cfg.batch_size = min(cfg.batch_size, cfg.num_image, 10**9 if on_a_gpu else BATCH_ON_A_CPU)
    cfg.num_epoch, cfg.warmup_epoch, cfg.num_workers, cfg.frequent = 1, 0, min(cfg.num_workers, 2), 1
    cfg.verbose, cfg.dali, cfg.save_all_states = steps, False, False
    get_dataloader = train_v2.get_dataloader

    class Verification(CallBackVerification):
        def ver_test(self, *given: object) -> None:
            super().ver_test(*given)
            verified.extend(self.ver_name_list)

    train_v2.get_dataloader = lambda *given: itertools.islice(iter(get_dataloader(*given)), steps)
    train_v2.get_config = lambda _: cfg
    train_v2.CallBackVerification = Verification
    train_v2.main(argparse.Namespace(config=f"configs/{name}.py"))
    train_v2.get_dataloader = get_dataloader
    assert verified == list(cfg.val_targets), f"verified by {verified}, not by {cfg.val_targets}"
    say(f"  {steps} steps of batch {cfg.batch_size} made, verified by {', '.join(verified) or 'nothing'}")


def main() -> None:
    steps, classes, names = int(sys.argv[1]), pq.read_table(sys.argv[2]), sys.argv[3:]
    if not torch.cuda.is_available():
        without_a_gpu()
    sys.path.insert(0, os.getcwd())
    import importlib

    import train_v2  # noqa: F401 it begins the process group
    from dataset import get_dataloader
    from utils.utils_config import get_config

    forms = {}
    for name in names:
        cfg = get_config(f"configs/{name}.py")
        say(f"{name}: get_config took it: num_classes {cfg.num_classes:,}, num_image {cfg.num_image:,}, rec {cfg.rec}")
        loader = get_dataloader(cfg.rec, 0, 1, False, False, cfg.seed, 0)
        check_data(cfg, loader, classes)
        forms[hasattr(loader.dataset, "targets")] = loader.dataset
        train(name, cfg, steps)
        importlib.reload(importlib.import_module("configs.base"))
    if len(forms) == 2:
        check_pixels(argparse.Namespace(data=forms[True], classes=classes), forms[False])
    say("The trainer reads what was proven.")


if __name__ == "__main__":
    main()
