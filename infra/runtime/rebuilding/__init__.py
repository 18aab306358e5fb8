"""Builds read models again beside those served, and looks for documents that drifted."""
