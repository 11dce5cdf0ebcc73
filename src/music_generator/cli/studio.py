"""The command `studio`."""

from __future__ import annotations

import threading
import webbrowser
from contextlib import suppress
from typing import Annotated

import typer

from music_generator.cli import options
from music_generator.cli.console import say
from music_generator.model.bundle import PRETRAINED_NAME, open_bundle
from music_generator.studio.options import StudioOptions


def studio(
    port: Annotated[
        int, typer.Option(help="port on 127.0.0.1; 0: any free one; a browser stores its pieces for each port apart")
    ] = StudioOptions.port,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="print the address without opening it")] = False,
    soundfont: options.SoundFont = StudioOptions.soundfont,
    model: options.Model = PRETRAINED_NAME,
) -> None:
    """Open a page on this computer to see, hear and change a piece; it runs until Ctrl+C."""
    from music_generator.studio.server import serve

    def started(address: str) -> None:
        print(address, flush=True)
        say("the studio is open at this address, on this computer only; Ctrl+C ends it")
        if not no_browser:
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()

    with suppress(KeyboardInterrupt):
        serve(open_bundle(model), StudioOptions(port, soundfont), started)
