"""One smoke study and its store, computed once for all test modules that need trained networks."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from public_files import toy_questions

from kpnb.datasets.texts.encoded import encoded_questions
from kpnb.datasets.texts.word_pieces import PieceEncoder
from kpnb.estimator.entropy import EntropyMaps
from kpnb.estimator.loss import GAUSSIAN_ENTROPY
from kpnb.metrics.evidence import Evidence
from kpnb.networks.text import load_tokenizer
from kpnb.store import Record, Store
from kpnb.study.image import ImageStudy
from kpnb.study.parameters import ImageParameters, resolve


def pytest_configure(config):
    """Workers of pytest-xdist, and the kernels that they start, take one thread each."""
    if hasattr(config, "workerinput"):
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        torch.set_num_threads(1)


def pytest_collection_modifyitems(items):
    """Files that execute notebooks first: a worker that began one last would end alone."""
    items.sort(key=lambda item: "notebook" not in item.path.as_posix())


class WatchedStore(Store):
    """A store that remembers what it was asked for: (kind, record) in order."""

    def __init__(self, root):
        super().__init__(root)
        self.asked: list[tuple[str, Record]] = []

    def compute(self, kind, *rest):
        record = super().compute(kind, *rest)
        self.asked.append((kind, record))
        return record

    def computed(self) -> list[str]:
        return [kind for kind, record in self.asked if record.computed]


def smoke_study(root: Path, **changed) -> ImageStudy:
    """A study at the smoke preset on a store of its own."""
    given = {"preset": "smoke", "device": "cpu"} | changed
    return ImageStudy(resolve(ImageParameters, given), WatchedStore(root))


@dataclass(repr=False)
class Smoke:
    """The shared study with evidence at FC1 and accuracies; nothing may write to its store."""

    root: Path
    study: ImageStudy
    evidence: Evidence


@contextmanager
def single_thread() -> Iterator[None]:
    """The number of threads can change the last bit, and tests compare bits across processes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.fixture
def one_thread():
    """For tests that compute what they compare with the shared study."""
    with single_thread():
        yield


@pytest.fixture
def few_test_images(monkeypatch):
    """Studies of images are tested on few; the shared study of the notebooks is not."""
    monkeypatch.setattr("kpnb.study.image.TEST_SAMPLES", 60)


@pytest.fixture(scope="session")
def smoke(tmp_path_factory) -> Smoke:
    root = tmp_path_factory.mktemp("smoke_store")
    study = smoke_study(root)
    with single_thread():
        evidence = study.evidence("FC1")
        study.accuracies("T")
        return Smoke(root, study, evidence)


def made_evidence(student=True, baseline=False, samples=8, seeds=1, layer="FC1") -> Evidence:
    """Evidence with known counts: a network is good (True) or bad, the teacher is good.

    8 foreground and 8 background cells; checkpoints 0, 1, 2 at distance 0, 0.1, 0.2 per epoch.
    good: N_fg 6 and N_bg 1 from epoch 1 on, the same cells: lambda 6/7, D 0.1, rho 1.
    bad: N_fg 3 and N_bg 2 in the end, lambda 3/5; in even samples N_fg was 4 at epoch 1, in other
    cells (D 0.1, rho 3/7), in odd ones 1 (D 0.2, rho 3/4), and there the published filter objects.
    """
    good, ways = {"T": True, "S": student, "B": baseline}, {"epoch": 0.1, "step": 0.2}
    distance = {
        (role, unit): [[0.0, way, 2 * way]] * seeds
        for role in "SB" for unit, way in (ways | {"share": 0.5, "time": 0.5}).items()
    }  # fmt: skip
    maps = {role: [_made_maps(good[role], samples)] * seeds for role in "TSB"}
    return Evidence(layer, (0, 1, 2), torch.arange(16).expand(samples, 16) < 8, maps, distance)


def _made_maps(good: bool, samples: int) -> dict[int, EntropyMaps]:
    even, odd, last = [[*range(6)]] * 3 if good else ([0, 1, 2, 3], [0], [4, 5, 6])
    background, maps = [8] if good else [8, 9], {}
    for epoch, parities in enumerate([None, (even, odd), (last, last)]):
        entropy = torch.zeros(samples, 16)
        for sample in range(samples if epoch else 0):
            entropy[sample, parities[sample % 2] + background] = -1.0
        sigma = (entropy - GAUSSIAN_ENTROPY).exp()
        maps[epoch] = EntropyMaps(sigma, torch.ones(samples), torch.ones(samples) > 0, 0 * sigma)
    return maps


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> str:
    from text_smoke import SIZES
    from text_tiny import tiny_folder

    return tiny_folder(tmp_path_factory.mktemp("model"), **SIZES)


@pytest.fixture(scope="session")
def encoder(tiny_model):
    return PieceEncoder(load_tokenizer(tiny_model))


@pytest.fixture(scope="session")
def asked(encoder):
    return encoded_questions(toy_questions(), encoder)


@pytest.fixture(scope="session")
def all_studies(smoke, tiny_model, tmp_path_factory):
    """kind -> its study with evidence, computed when first asked for; see the helper `studied`."""
    from studied import Studied, studied

    known = {"image": Studied("image", smoke.root, smoke.study, smoke.evidence, "FC1")}

    def of(kind: str) -> Studied:
        if kind not in known:
            known[kind] = studied(kind, tmp_path_factory.mktemp(f"{kind}_store"), tiny_model)
        return known[kind]

    return of
