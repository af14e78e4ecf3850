"""The modules here are for mypy and pyright: many lines in them are wrong on purpose, so pytest runs none."""

collect_ignore_glob = ["*.py"]
