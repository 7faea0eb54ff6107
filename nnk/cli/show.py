"""``nnk show``: a picture of what augmentations do to the images of a data set."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from nnk import data
from nnk.data.picture import save_grid

from .errors import CommandError

IMAGES, EPOCHS = 8, 9


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--data", default="digits", metavar="NAME", help=f"data set: {', '.join(data.names())}")
    parser.add_argument("--data-dir", type=Path, default=Path("data"), metavar="DIR", help="where data sets are kept")
    parser.add_argument("--size", type=int, metavar="N", help="height and width for the images of a folder")
    parser.add_argument(
        "--augment",
        default="crop,affine",
        metavar="NAMES",
        help=f"augmentations, with commas between: {', '.join(data.augmentation_names())} (default: crop,affine)",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the augmentations")
    parser.add_argument("--out", type=Path, default=Path("augmented.png"), metavar="FILE", help="the picture to write")


def run(args: argparse.Namespace) -> int:
    """Write a picture: a row for each image, first as it is, then as some epochs see it."""
    try:
        train, _ = data.load(args.data, args.data_dir, args.size)
        steps = data.augmentations([name for name in args.augment.split(",") if name], train)
        table = _table(train, steps, args.seed)
        save_grid(table, args.out)
    except (ValueError, ModuleNotFoundError, data.DataError, OSError) as error:
        raise CommandError(str(error)) from error
    print(f"picture {args.out}: {len(table)} images of {args.data}, as they are and as {EPOCHS} epochs see them")
    return 0


def _table(train: data.ArrayDataset, steps: list[data.Step], seed: int) -> np.ndarray:
    """Images (rows, columns, C, H, W) in the units of the data set."""
    _, first = np.unique(train.arrays[1], return_index=True)  # an image of each class
    few = data.ArrayDataset(*(array[first[:IMAGES]] for array in train.arrays))
    loader = data.DataLoader(few, IMAGES, seed=seed, augment=steps)
    seen = np.stack([next(loader.batches(epoch))[0] for epoch in range(EPOCHS)], axis=1)
    plain = few.arrays[0]
    if isinstance(train.transform, data.Normalize):
        seen = train.transform.inverse(seen)
    return np.concatenate([plain[:, None], seen.clip(plain.min(), plain.max())], axis=1)
