"""Can the text be brought back by who holds the weights: by training, coarser weights, probes, or other sinks?"""

from memsinks.auditing.bench import Bench
from memsinks.auditing.config import AuditConfig
from memsinks.auditing.sections.recovery import activation, coarsening, hidden, relearn
from memsinks.auditing.task import Task


def tasks(bench: Bench, config: AuditConfig) -> list[Task]:
    """Those of each attack."""
    return [task for attack in (relearn, coarsening, hidden, activation) for task in attack.tasks(bench, config)]
