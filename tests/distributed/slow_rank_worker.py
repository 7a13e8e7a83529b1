"""``memsinks train`` on a second rank that is slow to write its part of a checkpoint."""

import os
import time

from memsinks.cli import main
from memsinks.training.trainer import SinkTrainer


class SlowTrainer(SinkTrainer):
    def _save_rng_state(self, output_dir: str) -> None:
        if self.args.process_index == 1:
            time.sleep(0.3)
        super()._save_rng_state(output_dir)


def work(arguments: list[str]) -> int:
    import memsinks.training.run as run

    assert os.environ["WORLD_SIZE"] == "2"
    run.SinkTrainer = SlowTrainer
    return main(arguments)
