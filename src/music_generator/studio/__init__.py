"""The studio: a page on this computer for working with the model, and its server."""
