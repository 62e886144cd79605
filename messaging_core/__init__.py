"""The messaging domain without I/O: decisions as plain functions that return effects."""
