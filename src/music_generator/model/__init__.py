"""The model: its configuration, its network (torch), and the bundle it is shipped in (no torch)."""
