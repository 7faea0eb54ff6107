"""Data sets, transforms, augmentations and the loader that turns them into batches."""

from .augment import Augmentation, Draws, Mixing
from .datasets import ArrayDataset, Dataset
from .digits import digits
from .geometry import RandomAffine, RandomCrop, RandomHorizontalFlip, RandomVerticalFlip
from .loader import DataLoader
from .mixing import CutMix, MixUp
from .photometry import ColorJitter, Cutout, GaussianBlur, GaussianNoise, PCAColorJitter
from .registry import load, names
from .transforms import Compose, Normalize

__all__ = [
    "ArrayDataset",
    "Augmentation",
    "ColorJitter",
    "Compose",
    "CutMix",
    "Cutout",
    "DataLoader",
    "Dataset",
    "Draws",
    "GaussianBlur",
    "GaussianNoise",
    "MixUp",
    "Mixing",
    "Normalize",
    "PCAColorJitter",
    "RandomAffine",
    "RandomCrop",
    "RandomHorizontalFlip",
    "RandomVerticalFlip",
    "digits",
    "load",
    "names",
]
