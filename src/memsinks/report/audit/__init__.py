"""What an audit found, as a page and tables, and two audits beside each other."""

from memsinks.report.audit.comparison import Comparison, compare
from memsinks.report.audit.comparison_page import write_comparison
from memsinks.report.audit.content import AuditContent, parse
from memsinks.report.audit.page import REPORT, write_report
from memsinks.report.audit.spreadsheets import write_spreadsheets

__all__ = [
    "REPORT",
    "AuditContent",
    "Comparison",
    "compare",
    "parse",
    "write_comparison",
    "write_report",
    "write_spreadsheets",
]
