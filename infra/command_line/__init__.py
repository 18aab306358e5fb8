"""The command line: one module per `plaza` verb."""
