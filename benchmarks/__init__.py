"""What Cascade costs, beside the least it could cost and beside other tools: `python -m benchmarks --help`."""
