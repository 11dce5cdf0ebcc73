"""Data to train on: MAESTRO and other folders of MIDI files, prepared as a corpus."""
