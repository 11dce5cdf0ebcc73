"""Music as data: performances, tempo maps, token rows, MIDI files, features."""
