"""Which objects are prepared."""

import hashlib
from dataclasses import replace

import pytest

from data_prep.objects import selected
from kpnb.errors import KpnbError


def test_selection(objects):
    few = selected(objects, most=1)
    assert len({(o.category, o.split) for o in few.objects}) == len(few.objects) == 4
    first = min(("o0", "o2", "o4"), key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    assert first != "o0" and first in {o.name for o in few.objects}
    assert few.left_out == {"odd": 3, "over 1 of a class and split": 6}
    turned = selected(replace(objects, objects=objects.objects[::-1]), most=1)
    assert turned.objects == few.objects[::-1]
    assert set(few.objects) <= set(selected(objects, most=2).objects)
    large = selected(objects, least=22)
    assert [o.name for o in large.objects] == [f"o{i}" for i in range(2, 10)]
    assert large.left_out == {"odd": 3, "smaller than 22 pixels": 2}
    whole = replace(objects, objects=(replace(objects.objects[0], box=None),))
    assert len(selected(whole, least=99).objects) == 1
    assert selected(objects) == objects


def test_selection_refuses(objects):
    twice = replace(objects, objects=objects.objects + objects.objects[:1])
    for changed, settings, said in (
        (twice, {}, "2 objects called 'o0'"),
        (replace(objects, classes=("a",)), {}, "class 'b'"),
        (objects, {"least": -1}, "least"),
        (objects, {"most": 0}, "most"),
    ):
        with pytest.raises(KpnbError, match=said):
            selected(changed, **settings)
