"""What the processes of a preparation import: they begin often, and side by side."""

import subprocess
import sys

import pytest

from memsinks.corpus.executors import PRELOADED

HEAVY = {"torch", "transformers", "datasets", "accelerate", "scipy", "pandas"}
LOADED = """
import sys
import {module}
print(*sorted(set({heavy}) & set(sys.modules)))
"""


@pytest.mark.parametrize("module", [*PRELOADED, "memsinks", "memsinks.cli"])
def test_a_process_imports_no_library_of_models(module):
    code = LOADED.format(module=module, heavy=HEAVY)
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []
