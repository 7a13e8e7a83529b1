"""How a model with sinks is saved and uploaded: the plain checkpoint, with the sinks beside it or left at home."""

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from memsinks.errors import ConfigError
from memsinks.sinks.adapters import refuse_adapters
from memsinks.sinks.allocation import AllocationTable
from memsinks.sinks.config import SinkConfig
from memsinks.sinks.files import METADATA, TENSORS, save_sinks
from memsinks.sinks.layer import Sinks

if TYPE_CHECKING:
    from transformers import PreTrainedModel as _Model
else:
    _Model = object

_log = logging.getLogger(__name__)


class SavedModel(_Model):
    """The part of :class:`~memsinks.sinks.attach.SinkModel` that writes files."""

    sink_config: SinkConfig
    sink_allocation: AllocationTable
    _uploads_sinks = False

    def save_pretrained(
        self,
        save_directory: str | Path,
        is_main_process: bool = True,
        state_dict: dict[str, Tensor] | None = None,
        *,
        push_to_hub: bool = False,
        include_sinks: bool = False,
        **kwargs: Any,
    ) -> None:
        """Write the plain checkpoint, and the sinks beside it (``sinks.safetensors``, ``sinks.json``).

        Args:
            save_directory: a folder.
            is_main_process: whether this process writes.
            state_dict: of the model; default its own.
            push_to_hub: upload the plain checkpoint too.
            include_sinks: with ``push_to_hub``, upload the sinks as well.
            kwargs: as the base model takes them.

        Raises:
            ConfigError: ``include_sinks`` without ``push_to_hub``, or a distributed checkpoint, which does not keep
                sinks apart.
        """
        if include_sinks and not push_to_hub:
            raise ConfigError("include_sinks says what is uploaded; give it with push_to_hub=True, or leave it out")
        if kwargs.get("distributed_checkpoint"):
            raise ConfigError("a distributed checkpoint does not keep sinks apart; leave distributed_checkpoint out")
        if push_to_hub:
            refuse_adapters(self)
        state_dict = self.state_dict() if state_dict is None else state_dict
        sinks = {f"{name}.": module for name, module in self.named_modules() if isinstance(module, Sinks)}
        plain = {key: value for key, value in state_dict.items() if not key.startswith(tuple(sinks))}
        tensors = {
            f"layers.{module.layer_index}.{key.removeprefix(prefix)}": value
            for prefix, module in sinks.items()
            for key, value in state_dict.items()
            if key.startswith(prefix)
        }
        directory = Path(save_directory)
        if include_sinks and is_main_process:
            # The upload is a part of the base model's saving, so they have to be there before it.
            directory.mkdir(parents=True, exist_ok=True)
            self._save_sinks(directory, tensors)
        with self._uploading(include_sinks):
            super().save_pretrained(
                save_directory,
                is_main_process=is_main_process,
                state_dict=plain,
                push_to_hub=push_to_hub,
                **kwargs,
            )
        if is_main_process and not include_sinks:
            self._save_sinks(directory, tensors)

    def push_to_hub(self, repo_id: str, *, include_sinks: bool = False, **kwargs: Any) -> Any:
        """Upload the plain checkpoint: the model with sinks off.

        Args:
            repo_id: of the repository.
            include_sinks: upload ``sinks.safetensors`` and ``sinks.json`` too, and with them what they remember.
            kwargs: as the base model takes them.

        Raises:
            ConfigError: PEFT put an adapter into the model.
        """
        refuse_adapters(self)
        with self._uploading(include_sinks):
            return super().push_to_hub(repo_id, **kwargs)

    def _upload_modified_files(
        self, working_dir: str | Path, repo_id: str, files_timestamps: dict[str, float], *args: Any, **kwargs: Any
    ) -> Any:
        """As transformers': what it uploads are the files that are newer than their time in ``files_timestamps``."""
        own = (TENSORS, METADATA)
        others = {name: time for name, time in files_timestamps.items() if name not in own}
        if self._uploads_sinks:
            _log.warning("%s: uploading the sinks too; whoever has them has what they remember", repo_id)
        else:
            others |= dict.fromkeys(own, math.inf)
            _log.warning("%s: uploading the plain model, without its sinks (include_sinks=True adds them)", repo_id)
        return super()._upload_modified_files(working_dir, repo_id, others, *args, **kwargs)

    def _save_sinks(self, directory: Path, tensors: dict[str, Tensor]) -> None:
        save_sinks(directory, tensors, self.sink_config, self.config.model_type, self.sink_allocation)

    @contextmanager
    def _uploading(self, include_sinks: bool) -> Iterator[None]:
        """Transformers' methods call each other, and hand on no option that they do not know."""
        before, self._uploads_sinks = self._uploads_sinks, include_sinks
        try:
            yield
        finally:
            self._uploads_sinks = before
