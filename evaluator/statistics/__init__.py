"""What may be said about two pass rates: intervals, tests, the verdict, and how many problems."""
