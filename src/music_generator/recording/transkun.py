"""The network that transcribes a chunk: Transkun 2 of the package `transkun`, with the weights that lie in it.

Yujia Yan and Zhiyao Duan, Scoring intervals using non-hierarchical transformer for automatic piano transcription
(ISMIR 2024), https://arxiv.org/abs/2404.09466.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from music_generator.errors import MissingDependencyError, how_to_install
from music_generator.recording.chunks import CHUNK_SAMPLES, HOP_SAMPLES, KEYS, Array, Event

WEIGHTS = "pretrained/2.0"  # .conf and .pt, in the package


class Transkun:
    """The network, loaded from the package `transkun`.

    Raises:
        MissingDependencyError: The extra `transcribe` is not installed.
    """

    def __init__(self) -> None:
        with _without_warnings():
            self._load()

    def _load(self) -> None:
        try:
            import torch
            from transkun.ModelTransformer import ModelConfig, TransKun
            from transkun.Util import makeFrame
        except (ImportError, OSError) as error:
            raise MissingDependencyError(
                f"the package transkun cannot be loaded ({error}); install it with: {how_to_install('transcribe')}"
            ) from error
        self._torch, self._frames = torch, makeFrame
        folder = Path(sys.modules["transkun"].__file__ or "").parent
        config = ModelConfig()
        vars(config).update(json.loads((folder / f"{WEIGHTS}.conf").read_text("utf-8"))["Model"]["config"])
        with _filter_bank_from_weights(torch):
            self._model = TransKun(conf=config)
        weights = torch.load(folder / f"{WEIGHTS}.pt", map_location="cpu", weights_only=True)["state_dict"]
        self._model.load_state_dict(weights)
        self._model.eval()
        assert tuple(self._model.targetMIDIPitch) == KEYS

    def events(self, samples: Array, known: list[int]) -> tuple[list[Event], list[int]]:
        """Return the events of a chunk, see `Network`."""
        with self._torch.inference_mode(), _without_warnings():
            sound = self._torch.from_numpy(samples)
            frames = self._frames(sound, HOP_SAMPLES, self._model.windowSize)[None]
            last = round(CHUNK_SAMPLES / HOP_SAMPLES)
            (found,), known = self._model.transcribeFrames(frames, forcedStartPos=known, lastFrameIdx=last)
        return [
            Event(each.pitch, each.start, each.end, each.velocity, bool(each.hasOnset), bool(each.hasOffset))
            for each in found
        ], known


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Ignore what the libraries say of one another: of old calls, and of gradients, which are not taken."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _filter_bank_from_weights(torch: Any) -> Iterator[None]:
    """Let the model be made without torchaudio, which loads beside few versions of torch.

    The model asks it for one thing, the mel filter bank, and that is among the weights too.
    """
    stand_in: Any = ModuleType("torchaudio")
    stand_in.functional = SimpleNamespace(
        melscale_fbanks=lambda n_freqs, n_mels, **_options: torch.zeros(n_freqs, n_mels)
    )
    before = sys.modules.get("torchaudio")
    sys.modules["torchaudio"] = stand_in
    try:
        yield
    finally:
        del sys.modules["torchaudio"]
        if before is not None:
            sys.modules["torchaudio"] = before
