"""What searching needs before pages: the language, the indices, lists that keep their order."""
