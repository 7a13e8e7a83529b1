"""What a Trainer with ``push_to_hub=True`` uploads: the plain model alone, unless told otherwise."""

import logging
import shutil
from pathlib import Path
from typing import Any

from torch import nn
from transformers import Trainer, TrainingArguments
from transformers.trainer_utils import HubStrategy, SaveStrategy
from transformers.utils import PushInProgress
from transformers.utils.hub import hf_api

from memsinks.checkpoint.push import PLAIN, SINKS
from memsinks.errors import ConfigError
from memsinks.sinks.adapters import refuse_adapters
from memsinks.training.optimizer import uses_sinks

_log = logging.getLogger(__name__)
_WHOLE = (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS)


class PlainUploads(Trainer):
    """Trainer whose uploads leave sinks at home.

    transformers' own uploads the whole output folder. A model without sinks is uploaded as ever.

    Attributes:
        push_sinks: upload the sinks too, and with them what they remember.
    """

    push_sinks = False
    push_in_progress: Any

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """Save the model and upload the plain one; with :attr:`push_sinks`, its sinks too. All ranks take part.

        Args:
            commit_message: of the commit.
            blocking: wait for the upload.
            token: default that of the arguments.
            revision: branch; default that of the arguments.
            private: make the repository private, if it has to be made; default as the arguments say.
            kwargs: for the model card, as transformers takes them.

        Returns:
            The commit, or a future of it; None on all ranks but the first.

        Raises:
            ConfigError: PEFT put an adapter into the model.
        """
        if not uses_sinks(self.model):
            return super().push_to_hub(commit_message, blocking, token, revision, private, **kwargs)
        refuse_adapters(self.model)
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        if self.hub_model_id is None:
            self.init_hf_repo(token=token, private=private)
        self.save_model(_internal_call=True)
        if not self.is_world_process_zero():
            return None
        tags = kwargs.pop("tags", None) or []
        tags = [tags] if isinstance(tags, str) else list(tags)
        tags += [tag for tag in getattr(self.model, "model_tags", None) or [] if tag not in tags]
        self.create_model_card(model_name=kwargs.pop("model_name", None) or _name(self.args), tags=tags, **kwargs)
        self._finish_current_push()
        return self._upload(commit_message, wait=blocking, token=token, revision=revision)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Upload what a checkpoint has of the model; without sinks, as transformers does."""
        if not uses_sinks(self.model):
            super()._push_from_checkpoint(checkpoint_folder)
            return
        if not self.is_world_process_zero() or self.args.hub_strategy == HubStrategy.END:
            return
        running = self.push_in_progress is not None and not self.push_in_progress.is_done()
        if running and not self.args.hub_always_push:
            return
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        # A checkpoint may be gone before its upload has ended; so is done by transformers too.
        for pattern in self._wanted():
            for file in Path(checkpoint_folder).glob(pattern):
                shutil.copy(file, self.args.output_dir)
        by_steps = self.args.save_strategy == SaveStrategy.STEPS
        at = f"step {self.state.global_step}" if by_steps else f"epoch {int(self.state.epoch or 0)}"
        message = f"Training in progress, {at}"
        jobs = [self._upload(message, wait=False)]
        if self.args.hub_strategy in _WHOLE:
            last = self.args.hub_strategy == HubStrategy.CHECKPOINT
            jobs.append(
                hf_api().upload_folder(
                    repo_id=self.hub_model_id,
                    folder_path=checkpoint_folder,
                    path_in_repo="last-checkpoint" if last else Path(checkpoint_folder).name,
                    commit_message=f"{message}, checkpoint",
                    token=self.args.hub_token,
                    run_as_future=True,
                    revision=self.args.hub_revision,
                )
            )
        if running:
            self.push_in_progress.jobs.extend(jobs)
        else:
            self.push_in_progress = PushInProgress(jobs)

    def _wanted(self) -> list[str]:
        return [*PLAIN, *SINKS] if self.push_sinks else list(PLAIN)

    def _upload(self, message: str | None, *, wait: bool, token: str | None = None, revision: str | None = None) -> Any:
        return hf_api().upload_folder(
            repo_id=self.hub_model_id,
            folder_path=self.args.output_dir,
            commit_message=message,
            token=token or self.args.hub_token,
            run_as_future=not wait,
            allow_patterns=self._wanted(),
            # Patterns go across folders.
            ignore_patterns=["*/*"],
            revision=revision or self.args.hub_revision,
        )


def check_uploads(model: nn.Module, args: TrainingArguments, *, push_sinks: bool) -> None:
    """Refuse, before anything is uploaded, uploads that would hold too much or nothing of use.

    Raises:
        ConfigError: sinks are to be uploaded and there are none; PEFT put an adapter into a model with sinks; or whole
            checkpoints are to be uploaded without sinks.
    """
    if not uses_sinks(model):
        if push_sinks:
            raise ConfigError("push_sinks=True, and the model has no sinks; leave it out")
        return
    if not args.push_to_hub:
        return
    refuse_adapters(model)
    if push_sinks:
        _log.warning("uploads have the sinks too; whoever has them has what they remember")
        return
    if args.hub_strategy in _WHOLE:
        raise ConfigError(
            f"hub_strategy={args.hub_strategy.value!r} uploads checkpoints to go on from, which hold the sinks; pass "
            "push_sinks=True to upload them, or choose 'every_save' or 'end' for the plain model alone"
        )
    _log.warning("uploads have the plain model, without its sinks (push_sinks=True adds them)")


def _name(args: TrainingArguments) -> str:
    return Path(args.output_dir).name if args.hub_model_id is None else args.hub_model_id.split("/")[-1]
