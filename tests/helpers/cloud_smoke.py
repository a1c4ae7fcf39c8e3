"""Point-cloud studies at the smoke preset, made smaller still."""

from pathlib import Path

from conftest import WatchedStore

from kpnb.study.cloud import CloudStudy
from kpnb.study.parameters import CloudParameters, resolve

POINTS, BACKGROUND = 90, 40  # the narrow networks take 128 centroids, so at least 128 in all
SMALL = dict(preset="smoke", device="cpu", points=POINTS, background=BACKGROUND)
SMALL |= dict(teacher_samples=100, test_samples=20, fraction=0.4, samples=3)


def cloud_parameters(**changed) -> CloudParameters:
    return resolve(CloudParameters, SMALL | changed)


def cloud_study(root: Path, **changed) -> CloudStudy:
    """PointNet unless `network` says otherwise, on a store that remembers what it was asked."""
    return CloudStudy(cloud_parameters(**changed), WatchedStore(root))
