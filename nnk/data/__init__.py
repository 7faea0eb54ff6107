"""Data sets, transforms and the loader that turns them into batches."""

from .datasets import ArrayDataset, Dataset
from .digits import digits
from .loader import DataLoader
from .registry import load, names
from .transforms import Compose, Normalize

__all__ = ["ArrayDataset", "Compose", "DataLoader", "Dataset", "Normalize", "digits", "load", "names"]
