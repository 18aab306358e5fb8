"""What pages, processes and fan-outs ask of the read tables."""
