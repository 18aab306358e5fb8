"""What leaves the system in files, and looking for texts in all that is kept."""
