"""The studio: a page on this computer where a musician works with the model, and the server behind it."""
