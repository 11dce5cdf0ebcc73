"""Run the command line: `python -m music_generator`."""

from music_generator.cli.main import main

if __name__ == "__main__":
    main()
