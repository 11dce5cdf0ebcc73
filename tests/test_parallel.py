"""Shards: each item is in exactly one of them."""

from __future__ import annotations

import pytest

from music_generator.errors import InputError
from music_generator.parallel import WHOLE, Shard, read_shard


@pytest.mark.parametrize("count", [1, 2, 3, 12])
def test_each_item_is_in_exactly_one_shard(count: int) -> None:
    parts = [list(Shard(index, count).of(iter(range(10)))) for index in range(1, count + 1)]
    for first, part in enumerate(parts):
        assert part == [number for number in range(10) if number % count == first]


def test_the_whole() -> None:
    assert list(WHOLE.of("abc")) == ["a", "b", "c"]


def test_reading_is_the_inverse_of_str() -> None:
    for shard in (Shard(1, 1), Shard(3, 12), WHOLE):
        assert read_shard(str(shard)) == shard


@pytest.mark.parametrize("text", ["", "1", "/", "0/3", "4/3", "a/b", "1/0", "-1/3", "1/3/5", "1.0/2"])
def test_text_that_is_not_a_shard(text: str) -> None:
    with pytest.raises(InputError, match="`--shard` must be I/N with I from 1 to N, such as 2/8, not"):
        read_shard(text)


@pytest.mark.parametrize(("index", "count"), [(0, 3), (4, 3), (1, 0)])
def test_a_number_out_of_range(index: int, count: int) -> None:
    with pytest.raises(InputError, match=f"a shard's number must be 1 to {count}, not {index}"):
        Shard(index, count)
