"""Analyse trainings and networks: curves, operations."""
