"""Data sets, transforms, augmentations and the loader that turns them into batches."""

from .augment import Augmentation, Draws, Mixing, Step
from .cifar import cifar10, cifar100
from .datasets import ArrayDataset, Dataset
from .digits import digits
from .download import DataError
from .folder import ImageFolder, image_folder
from .geometry import RandomAffine, RandomCrop, RandomHorizontalFlip, RandomVerticalFlip
from .label_noise import noisy_labels
from .loader import DataLoader
from .mixing import CutMix, MixUp
from .mnist import fashion_mnist, mnist
from .photometry import ColorJitter, Cutout, GaussianBlur, GaussianNoise, PCAColorJitter
from .registry import augmentation_names, augmentations, load, names
from .statistics import channel_statistics, mean_image
from .transforms import Compose, Normalize
from .whitening import PCAWhitening, ZCAWhitening

__all__ = [
    "ArrayDataset",
    "Augmentation",
    "ColorJitter",
    "Compose",
    "CutMix",
    "Cutout",
    "DataError",
    "DataLoader",
    "Dataset",
    "Draws",
    "GaussianBlur",
    "GaussianNoise",
    "ImageFolder",
    "MixUp",
    "Mixing",
    "Normalize",
    "PCAColorJitter",
    "PCAWhitening",
    "RandomAffine",
    "RandomCrop",
    "RandomHorizontalFlip",
    "RandomVerticalFlip",
    "Step",
    "ZCAWhitening",
    "augmentation_names",
    "augmentations",
    "channel_statistics",
    "cifar10",
    "cifar100",
    "digits",
    "fashion_mnist",
    "image_folder",
    "load",
    "mean_image",
    "mnist",
    "names",
    "noisy_labels",
]
