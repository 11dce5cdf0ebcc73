"""A peer: the network of the notebook this project began as, in Keras: generation and training.

It is the network and loop of the TensorFlow tutorial "Generate music with an RNN", bidirectional as the notebook has
it: windows of 25 notes of pitch, step and duration; `Bidirectional(LSTM(128))`; heads of 128 pitches, a step and a
duration; temperature 2; batches of 64 windows. Weights that generate are random: they cost what trained ones do.

`python peer_keras.py predict|function|train …` prints JSON. `predict` calls `model.predict` for each note as the
notebook does, `function` the whole step as one compiled `tf.function`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

WINDOW, PITCHES, BATCH, TEMPERATURE = 25, 128, 64, 2.0
PITCH_STEP_DURATION = 3


def positive_error(truth: tf.Tensor, said: tf.Tensor) -> tf.Tensor:
    """Squared error, and a push away from negative times."""
    return tf.reduce_mean((truth - said) ** 2 + 10 * tf.maximum(-said, 0.0))


def make_network() -> keras.Model:
    """The network, compiled for training."""
    inputs = keras.Input((WINDOW, PITCH_STEP_DURATION))
    hidden = keras.layers.Bidirectional(keras.layers.LSTM(128))(inputs)
    outputs = {
        "pitch": keras.layers.Dense(PITCHES, name="pitch")(hidden),
        "step": keras.layers.Dense(1, name="step")(hidden),
        "duration": keras.layers.Dense(1, name="duration")(hidden),
    }
    network = keras.Model(inputs, outputs)
    losses = {
        "pitch": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        "step": positive_error,
        "duration": positive_error,
    }
    weights = {"pitch": 0.05, "step": 1.0, "duration": 1.0}
    network.compile(loss=losses, loss_weights=weights, optimizer=keras.optimizers.Adam(0.005))
    return network


def first_window() -> np.ndarray:
    """Notes to begin with, their pitches as shares of 128."""
    rng = np.random.default_rng(0)
    return np.stack([rng.uniform(0.3, 0.7, WINDOW), rng.uniform(0, 0.3, WINDOW), rng.uniform(0.1, 1, WINDOW)], 1)


def by_predict(network: keras.Model) -> Callable[[int], None]:
    """One `predict` a note."""

    def write(notes: int) -> None:
        window = first_window()
        for _ in range(notes):
            said = network.predict(window[None], verbose=0)
            pitch = int(tf.random.categorical(said["pitch"] / TEMPERATURE, 1)[0, 0])
            step, duration = (float(max(0.0, said[name][0, 0])) for name in ("step", "duration"))
            window = np.append(window[1:], [[pitch / PITCHES, step, duration]], axis=0)

    return write


def by_function(network: keras.Model) -> Callable[[int], None]:
    """One call of a compiled function a note: network, draw and window."""

    @tf.function
    def note(window: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        said = network(window, training=False)
        pitch = tf.cast(tf.random.categorical(said["pitch"] / TEMPERATURE, 1), tf.float32)
        written = tf.concat([pitch / PITCHES, *(tf.maximum(0.0, said[name]) for name in ("step", "duration"))], 1)
        return written, tf.concat([window[:, 1:], written[:, None]], 1)

    def write(notes: int) -> None:
        window = tf.constant(first_window()[None], tf.float32)
        for _ in range(notes):
            written, window = note(window)
            written.numpy()

    return write


def generate(write: Callable[[int], None], notes: int, repeats: int) -> list[float]:
    """Notes a second, of each repeat."""
    write(5)
    speeds = []
    for _ in range(repeats):
        begun = time.perf_counter()
        write(notes)
        speeds.append(notes / (time.perf_counter() - begun))
    return speeds


def windows_of(files: list[str]) -> tf.data.Dataset:
    """All windows of the files as the tutorial makes them: 25 notes, and the one after them as the label."""
    from peer_reading import read

    pieces = []
    for path in files:
        notes = read(path)[0]
        start, end, pitch = notes[np.argsort(notes[:, 0], kind="stable"), :3].T
        pieces.append(np.stack([pitch, np.diff(start, prepend=start[0]), end - start], 1))
    rows = tf.data.Dataset.from_tensor_slices(np.concatenate(pieces))
    windows = rows.window(WINDOW + 1, shift=1, drop_remainder=True)
    windows = windows.flat_map(lambda window: window.batch(WINDOW + 1, drop_remainder=True))

    def split(window: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        label = {name: window[-1, i] for i, name in enumerate(("pitch", "step", "duration"))}
        return window[:-1] / [PITCHES, 1.0, 1.0], label

    return windows.map(split, num_parallel_calls=tf.data.AUTOTUNE)


def train(network: keras.Model, files: list[str], steps: int, repeats: int) -> list[float]:
    """Windows a second, of each repeat of so many steps."""
    batches = windows_of(files).shuffle(10_000).batch(BATCH, drop_remainder=True)
    data = batches.take(steps).cache().prefetch(tf.data.AUTOTUNE)
    ends: list[float] = []
    note_end = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: ends.append(time.perf_counter()))
    network.fit(data, epochs=repeats + 1, callbacks=[note_end], verbose=0)
    steps = sum(1 for _ in data)  # fewer where there are fewer windows
    return [steps * BATCH / seconds for seconds in np.diff(ends)]  # the first epoch compiled, and filled the cache


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["predict", "function", "train"])
    parser.add_argument("--files", type=Path, help="text file, one path a line")
    parser.add_argument("--notes", type=int, default=100)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    keras.utils.set_random_seed(0)
    network = make_network()
    found: dict[str, object] = {"parameters": network.count_params()}
    found["versions"] = {"tensorflow (peer)": tf.__version__, "keras (peer)": keras.__version__}
    if options.what == "train":
        files = options.files.read_text("utf-8").splitlines()
        found["windows_per_second"] = train(network, files, options.steps, options.repeats)
    else:
        write = by_predict(network) if options.what == "predict" else by_function(network)
        found["notes_per_second"] = generate(write, options.notes, options.repeats)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
