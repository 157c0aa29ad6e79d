"""Benchmarks, one file a question; a package, as a release of pyarrow installs one of this name."""
