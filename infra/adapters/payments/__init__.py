"""Payments through Adyen."""
