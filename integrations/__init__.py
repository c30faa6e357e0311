"""Hooks: one file for each framework."""
