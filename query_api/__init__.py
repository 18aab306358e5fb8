"""HTTP in, pages out: skeleton, rank, hydrate, filter, present."""
