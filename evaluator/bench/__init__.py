"""Many runs from one file: config → plan → exports → runs → table."""
