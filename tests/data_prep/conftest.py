"""Objects in pictures, and trees of the five data sets of images, which are made once."""

import shutil
from pathlib import Path

import pytest
from image_trees import picture_objects
from readers import READERS


@pytest.fixture
def objects(tmp_path):
    return picture_objects(tmp_path)


@pytest.fixture(scope="session")
def trees(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("objects")
    return {key: tree(root / key, train=4, test=2) for key, (_, tree, *_) in READERS.items()}


@pytest.fixture
def root(trees, tmp_path, key) -> Path:
    """A copy of the tree of the data set `key`, to be changed."""
    return Path(shutil.copytree(trees[key], tmp_path / key))
