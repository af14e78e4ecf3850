"""A run as one page for a browser: what ran when, how it stands, what went wrong. Needs nothing but the file."""

from cascade.tools.report_page.page import write_report

__all__ = ["write_report"]
