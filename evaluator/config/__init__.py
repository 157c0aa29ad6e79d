"""Run and bench files: their fields, defaults and checks."""
