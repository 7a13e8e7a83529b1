"""The families of measurements; each plans its tasks."""

from memsinks.auditing.sections import losses, recovery
from memsinks.auditing.task import Planner

PLANNERS: dict[str, Planner] = {"losses": losses.tasks, "recovery": recovery.tasks}
"""By the name of the section, in the order of the report."""
