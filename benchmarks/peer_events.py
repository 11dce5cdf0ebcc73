"""A peer: an event LSTM of Performance RNN's size, stepped in torch one event at a time, one thread.

The size is that of Magenta's Performance RNN with velocities (Oore et al. 2018, arXiv:1808.03715): three LSTM layers of
512 units and 388 event classes: 128 note-ons, 128 note-offs, 100 time shifts, 32 velocities. An event is a one-hot
input, a softmax and a draw. The weights are random: they cost what trained ones do. oneDNN is off: torch steps several
times faster without it.

`python peer_events.py --events 2000 --repeats 5` prints JSON.
"""

from __future__ import annotations

import argparse
import json
import time

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CLASSES, LAYERS, SIZE = 388, 3, 512


class EventNetwork(nn.Module):
    """One event to the next event's logits."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = nn.LSTM(CLASSES, SIZE, LAYERS)
        self.out = nn.Linear(SIZE, CLASSES)

    def forward(self, event: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """`event` (1,) → logits (1, classes) and the state after it."""
        hidden, state = self.stack(F.one_hot(event, CLASSES).float()[None], state)
        return self.out(hidden[0]), state


def generate(network: EventNetwork, events: int) -> list[int]:
    """That many events from nothing."""
    state = (torch.zeros(LAYERS, 1, SIZE), torch.zeros(LAYERS, 1, SIZE))
    event, drawn = torch.zeros(1, dtype=torch.int64), []
    for _ in range(events):
        logits, state = network(event, state)
        event = torch.multinomial(torch.softmax(logits, -1), 1)[0]
        drawn.append(int(event))
    return drawn


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network, speeds = EventNetwork().eval(), []
    with torch.inference_mode(), torch.backends.mkldnn.flags(enabled=False):
        generate(network, 20)
        for _ in range(options.repeats):
            begun = time.perf_counter()
            generate(network, options.events)
            speeds.append(options.events / (time.perf_counter() - begun))
    parameters = sum(weight.numel() for weight in network.parameters())
    versions = {"torch (peer)": torch.__version__}
    print(json.dumps({"events_per_second": speeds, "parameters": parameters, "versions": versions}))


if __name__ == "__main__":
    main()
