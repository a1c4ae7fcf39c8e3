"""A study's data, whatever the modality: what is measured, and what is refused."""

from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch

from kpnb.errors import KpnbError
from kpnb.study.modality import StudyData


@dataclass(frozen=True)
class Numbered:
    """Samples that are their numbers."""

    numbers: tuple
    source: tuple = ()

    def __len__(self):
        return len(self.numbers)

    def subset(self, index):
        return Numbered(tuple(self.numbers[i] for i in index))

    def fraction(self, share, seed):
        return Numbered(self.numbers[: round(share * len(self))])

    @property
    def foreground(self):
        return torch.tensor(self.numbers) > 0


class Data(StudyData):
    hashes, title = {}, "numbers"

    @property
    def teacher_samples(self):
        return Numbered(tuple(range(10)))

    @property
    def test_samples(self):
        return Numbered((20, 21, 22))

    def usable(self, samples):
        return [place for place, number in enumerate(samples.numbers) if number % 2 == 0]


def data(**changed):
    about = {"fraction": 0.5, "measured_on": "train", "samples": 2, "SAMPLE": "number"}
    return Data(SimpleNamespace(**about | changed))


def test_the_first_usable_samples_are_measured():
    assert data().training_samples.numbers == (0, 1, 2, 3, 4)
    assert data().measured.numbers == (0, 2)
    assert data(measured_on="test").measured.numbers == (20, 22)
    assert data(samples=3).foreground.tolist() == [False, True, True]


@pytest.mark.parametrize(
    "changed, told",
    [
        ({"samples": 4}, "only 3 are there to measure; .* raise teacher_samples or fraction"),
        ({"samples": 3, "measured_on": "test"}, "only 2 are there to measure; ask for fewer"),
        ({"samples": 3, "measured_on": "test", "test_samples": 3}, "or raise test_samples"),
    ],
)
def test_too_few_are_refused_with_what_to_do(changed, told):
    with pytest.raises(KpnbError, match=told):
        _ = data(**changed).measured
