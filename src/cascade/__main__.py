"""`python -m cascade`."""

from cascade.tools.command import main

main()
