"""Results as a checked schema, a table and one self-contained page."""

from memsinks.report.page import write_page
from memsinks.report.schema import Results, Target, target, validate
from memsinks.report.table import arms_table, markdown_table

__all__ = ["Results", "Target", "arms_table", "markdown_table", "target", "validate", "write_page"]
