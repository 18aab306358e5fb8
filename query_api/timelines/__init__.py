"""How a page of a timeline comes about, and the local caches it is joined from."""
