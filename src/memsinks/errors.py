"""Every error that memsinks raises on purpose.

::

    MemsinksError
    ├── InputError             a file, row, column or option given by the user cannot be used
    ├── ConfigError            settings that contradict each other or the model
    ├── UnsupportedModelError  the model's MLP cannot take sinks exactly
    ├── SequenceIdError        sequence IDs or sink masks are missing, misshapen or out of range
    ├── CheckpointError        a saved run is missing a part, or a part was altered
    ├── TrainingError          training goes on without learning anything
    ├── WorkerError            a process that works for this one died
    └── LedgerError            the ledger cannot be read, written or trusted
        └── LedgerConflictError  somebody else wrote to it since

A message says what was wrong, where, and what to do about it. :class:`IsolationWarning` is a warning, not an error.
"""


class MemsinksError(Exception):
    """Base of all errors raised by memsinks."""


class InputError(MemsinksError):
    """A file, row, column or option given by the user cannot be used."""


class ConfigError(MemsinksError):
    """Settings contradict each other or do not fit the model."""


class UnsupportedModelError(MemsinksError):
    """The model's MLP cannot take sinks exactly."""


class SequenceIdError(MemsinksError, ValueError):
    """Sequence IDs or sink masks are missing, misshapen, of the wrong type or out of range."""


class CheckpointError(MemsinksError):
    """A saved run is missing a part, or a part was altered."""


class TrainingError(MemsinksError):
    """Training goes on without learning anything."""


class WorkerError(MemsinksError):
    """A process that works for this one died."""


class LedgerError(MemsinksError):
    """The ledger of removals cannot be reached, read or written, or is damaged."""


class LedgerConflictError(LedgerError):
    """Somebody else wrote to the ledger after what this entry was decided on; nothing was recorded."""


class IsolationWarning(UserWarning):
    """Something that is not isolated by sequence ID learns from governed text, and no removal takes it out again."""
