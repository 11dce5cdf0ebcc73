"""Shards: each item is in exactly one of them. Processes: results in order, and an end at once if nobody wants more."""

from __future__ import annotations

import multiprocessing
import os
import time
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest

from music_generator.errors import InputError
from music_generator.files import replacing
from music_generator.parallel import AHEAD, WHOLE, Shard, map_in_processes, read_shard


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


METHODS = sorted({"spawn", "fork"} & set(multiprocessing.get_all_start_methods()))


def square(number: int) -> int:
    return number * number


def write_slowly(path: Path) -> None:
    """Write a file; all but the first never end."""
    with replacing(path) as beside:
        beside.write_text("half")
        time.sleep(0 if path.name == "0" else 600)


def fail(number: int) -> int:
    if number == 3:
        raise InputError("three")
    return number


def end(number: int) -> None:
    if number == 3:
        os._exit(9)


@pytest.mark.parametrize("method", METHODS)
def test_results_come_in_order_and_items_are_taken_as_they_are_needed(method: str) -> None:
    taken = count()
    with closing(map_in_processes(square, (next(taken) for _ in range(200)), 2, method)) as results:
        assert [next(results) for _ in range(20)] == [number * number for number in range(20)]
        assert next(taken) <= 20 + AHEAD * 2 + 1


def test_all_results_and_none() -> None:
    assert list(map_in_processes(square, range(30), 2, "spawn")) == [number * number for number in range(30)]
    assert list(map_in_processes(square, (), 2, "spawn")) == []


@pytest.mark.parametrize("method", METHODS)
def test_where_nobody_wants_more_the_processes_end_and_leave_no_half_file(method: str, tmp_path: Path) -> None:
    with closing(map_in_processes(write_slowly, (tmp_path / str(i) for i in range(100)), 2, method)) as results:
        next(results)
        while sum(path.name.startswith(".") for path in tmp_path.iterdir()) < 2:  # both are at work
            time.sleep(0.01)
    assert [path.name for path in tmp_path.iterdir()] == ["0"]
    assert not multiprocessing.active_children()


def test_what_goes_wrong_in_a_process_is_raised_here() -> None:
    with pytest.raises(InputError, match="three"):
        list(map_in_processes(fail, range(100), 2, "spawn"))
    assert not multiprocessing.active_children()


def test_a_process_that_is_killed_is_said() -> None:
    with pytest.raises(BrokenProcessPool):
        list(map_in_processes(end, range(100), 2, "spawn"))
