"""Options hold what their annotations say: anything else is one clear error, in Python too."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from music_generator.data.windows import WindowOptions
from music_generator.engine.rules import Habituation
from music_generator.errors import InputError
from music_generator.evaluation import EvaluationOptions
from music_generator.export import Export
from music_generator.generation import SamplingOptions
from music_generator.generation.batch import BatchOptions
from music_generator.model.config import ModelConfig
from music_generator.studio.options import StudioOptions
from music_generator.training.options import TrainingOptions

OPTIONS = (SamplingOptions, Habituation, BatchOptions, Export, ModelConfig, WindowOptions, TrainingOptions,
           EvaluationOptions, StudioOptions)  # fmt: skip
# annotation: values that are something else, and what is said
WRONG: dict[str, tuple[tuple[object, ...], str]] = {
    "int": ((1.5, "1", True, [1]), "a whole number"),
    "float": (("1", True, [1.0], 1j), "a number"),
    "str": ((1, b"text", ["text"]), "text in quotes"),
    "bool": ((1, "no", 0.0), "True or False"),
    "Path": (("a/path", 1), "a `pathlib.Path`"),
}
WRONG_FIELDS = [
    (options, field.name, wrong, words)
    for options in OPTIONS
    for field in fields(options)
    for values, words in [WRONG.get(str(field.type).removesuffix(" | None"), ((), ""))]
    for wrong in (*values, *((None,) if "None" not in str(field.type) else ()))
    if values
]


@pytest.mark.parametrize(("options", "name", "wrong", "words"), WRONG_FIELDS)
def test_a_value_of_another_type_is_refused(options: Any, name: str, wrong: object, words: str) -> None:
    with pytest.raises(InputError) as caught:
        options(**{name: wrong})
    assert str(caught.value) == f"`{name}` must be {words}, not {wrong!r}"


def test_numbers_of_numpy_are_numbers() -> None:
    options = SamplingOptions(seed=np.int64(3), temperature=np.float32(1.0), density=5)  # type: ignore[arg-type]
    assert options == SamplingOptions(seed=3, temperature=1.0, density=5.0)
