"""The report of load tests: one page with everything in it, made from records and nothing else."""

from scripts.load.report.document import page, report

__all__ = ["page", "report"]
