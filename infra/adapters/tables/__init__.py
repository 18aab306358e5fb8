"""Read tables: making builds of them, writing them, comparing them, and telling what changed."""
