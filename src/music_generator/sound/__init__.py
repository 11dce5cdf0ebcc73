"""Performances into sound."""
