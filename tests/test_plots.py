"""Pictures: what they show, the files, and that nothing global changes."""

import subprocess
import sys

import numpy as np
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.image import imread

from music_generator import plots
from music_generator.errors import InputError
from music_generator.music import features
from music_generator.music.performance import NOTE_DTYPE, PEDAL_DTYPE, SUSTAIN, UNA_CORDA, Performance
from music_generator.training.history import read_history


@pytest.fixture
def scale() -> Performance:
    """Forty notes, ten a second, with two pedals."""
    notes = [(0.1 * i, 0.2, 40 + i, 20 + 2 * i) for i in range(40)]
    pedals = [(0.5, 1.0, SUSTAIN, 100), (2.0, 1.0, UNA_CORDA, 90)]
    return Performance(np.array(notes, NOTE_DTYPE), np.array(pedals, PEDAL_DTYPE))


def boxes(axes) -> list[int]:
    return [len(c.get_paths()) for c in axes.collections if isinstance(c, PolyCollection)]


def legend(axes) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


# --- piano roll


def test_piano_roll_tells_generated_from_given(scale):
    figure = plots.piano_roll(scale, generated=(1.0, 2.0), title="a $ b $ c")
    roll, pedals = figure.axes
    assert boxes(roll) == [30, 10]
    assert legend(roll) == ["given, soft", "given, loud", "generated, soft", "generated, loud"]
    given, generated = roll.collections[:2]
    figure.draw_without_rendering()
    assert not np.allclose(given.get_facecolors()[0], generated.get_facecolors()[0])
    assert given.get_facecolors()[0][:3].sum() > given.get_facecolors()[-1][:3].sum()  # louder is darker
    assert [label.get_text() for label in pedals.get_yticklabels()] == ["sustain", "una corda"]
    assert roll.get_title(loc="left") == "a $ b $ c"


def test_piano_roll_without_a_window(scale):
    roll, _ = plots.piano_roll(scale).axes
    assert boxes(roll) == [40]
    assert legend(roll) == ["notes, soft", "notes, loud"]
    assert "C4" in [label.get_text() for label in roll.get_yticklabels()]


def test_piano_roll_boxes_lie_where_the_notes_are(scale):
    roll, _ = plots.piano_roll(scale).axes
    box = roll.collections[0].get_paths()[10].get_extents()
    assert (box.x0, box.x1) == pytest.approx((1.0, 1.2))
    assert (box.y0 + box.y1) / 2 == pytest.approx(50)


@pytest.mark.parametrize("window", [None, (0.0, 0.0), (0.0, np.inf)])
def test_piano_roll_of_nothing(tmp_path, window):
    plots.save(plots.piano_roll(Performance(), generated=window), tmp_path / "empty.png")
    assert (tmp_path / "empty.png").stat().st_size > 1000


def test_piano_roll_window_must_not_end_before_it_starts(scale):
    with pytest.raises(InputError, match=r"must end after its start \(3.0\), not at 2.0"):
        plots.piano_roll(scale, generated=(3.0, 2.0))


def test_piano_roll_picture_has_both_colours(tmp_path, scale):
    plots.save(plots.piano_roll(scale, generated=(1.0, 3.0)), tmp_path / "new" / "roll.png")
    red, _, blue = np.moveaxis(imread(tmp_path / "new" / "roll.png")[..., :3], -1, 0)
    assert (red - blue > 0.25).sum() > 2_000  # orange
    assert (blue - red > 0.25).sum() > 2_000
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["roll.png"]


# --- distributions


def counted(**counts: list[int]) -> features.Distributions:
    """Distributions with `counts` in the first bins, the others empty."""
    empty = {name: np.zeros(len(edges) - 1, np.int64) for name, edges in features.EDGES.items()}
    for name, values in counts.items():
        empty[name][: len(values)] = values
    return features.Distributions(empty)


def test_overlap_is_the_sum_of_smaller_shares():
    figure = plots.distributions(counted(pitch=[1, 1, 2], step=[5]), counted(pitch=[10, 0, 10], step=[0, 3]))
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["pitch: overlap 0.75", "step: overlap 0.00", "duration: overlap 0.00", "velocity: overlap 0.00"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "generated (4 notes)",
        "reference (20 notes)",
    ]


def test_distributions_bars_are_percentages_and_the_axis_tells_of_the_last():
    pitch, step, duration, _ = plots.distributions(counted(pitch=[1, 3]), None).axes
    assert [bar.get_height() for bar in pitch.patches[:3]] == [25, 75, 0]
    assert pitch.get_title(loc="left") == "pitch"
    assert "1 s and more" in step.get_xlabel()
    assert "2 s and more" in duration.get_xlabel()


# --- training

HISTORY = """step,tokens,seconds,train_total,train_shift,validation_total,validation_shift,validation_infill_16
0,0,0.1,9.0,3.0,9.5,3.1,
10,1000000,1.0,8.0,2.5,,,
20,2000000,2.0,7.0,2.0,7.5,2.25,7.25

30,3000000,3.0,6.5
"""


def test_loss_curves_with_holes(tmp_path):
    (tmp_path / "history.csv").write_text(HISTORY)
    figure = plots.loss_curves(read_history(tmp_path / "history.csv"), "a run")
    total, shift, key, _, _ = figure.axes
    assert legend(total) == ["train", "validation", "gap of 16, both sides known"]
    train, validation, infill = total.lines
    assert train.get_xdata().tolist() == [0, 1, 2, 3]
    assert validation.get_xydata().tolist() == [[0, 9.5], [2, 7.5]]
    assert infill.get_xydata().tolist() == [[2, 7.25]]
    assert total.get_title(loc="left") == "total (best validation 7.500)"
    assert total.get_ylabel() == "nats per token"
    assert (len(shift.lines), len(key.lines)) == (2, 0)


@pytest.mark.parametrize("columns", [{}, {"train_total": np.full(3, np.nan)}, {"train_total": np.arange(90.0)}])
def test_loss_curves_of_little(tmp_path, columns):
    plots.save(plots.loss_curves(columns), tmp_path / "loss.svg")
    assert (tmp_path / "loss.svg").read_text().lstrip().startswith("<?xml")


def test_compared_curves_are_those_of_each_run(tmp_path):
    (tmp_path / "history.csv").write_text(HISTORY)
    history = read_history(tmp_path / "history.csv")
    figure = plots.compared_curves({"a$_$": history, "young": {}, "b": history})
    total, shift, key, _, _ = figure.axes
    assert legend(total) == ["a$_$", "b"]
    validation = [line for line in total.lines if not line.get_label().startswith("_")]
    assert [line.get_xydata().tolist() for line in validation] == [[[0, 9.5], [2, 7.5]]] * 2
    assert len({line.get_color() for line in validation}) == 2
    assert (len(total.lines), len(shift.lines), len(key.lines)) == (4, 2, 0)
    plots.save(figure, tmp_path / "compared.png")
    plots.save(plots.compared_curves({}), tmp_path / "none.png")


# --- files


def test_save_formats_and_unknown_suffix(tmp_path):
    for suffix, start in ((".png", b"\x89PNG"), (".PDF", b"%PDF"), (".svg", b"<?xml")):
        plots.save(Figure((1, 1)), tmp_path / f"a{suffix}")
        assert (tmp_path / f"a{suffix}").read_bytes().startswith(start)
    with pytest.raises(InputError, match=r"a\.gif: the suffix must be one of \.png, \.svg, \.pdf"):
        plots.save(Figure((1, 1)), tmp_path / "a.gif")


def test_failed_save_leaves_nothing(monkeypatch, tmp_path):
    def full(_figure, path, **_options):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", full)
    with pytest.raises(InputError, match=r"cannot write .*a\.png: No space left on device"):
        plots.save(Figure((1, 1)), tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


def test_import_is_cheap():
    code = "import sys, music_generator.plots, music_generator.sound; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
