"""Run the command line: `python -m music_generator`, and the command `music-generator`."""

import signal


def main() -> None:
    """Run the command line. A Ctrl-C while its modules are loaded ends it without a traceback."""
    interrupts = signal.getsignal(signal.SIGINT)  # ignored, if the shell says so
    if interrupts is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from music_generator.cli.main import main as run

    signal.signal(signal.SIGINT, interrupts)
    run()


if __name__ == "__main__":
    main()
