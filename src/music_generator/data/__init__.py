"""Corpora: MAESTRO, downloads, preparation, opening."""
