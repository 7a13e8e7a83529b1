"""What the processes of a preparation import: they begin often, and side by side."""

import subprocess
import sys

import pytest

HEAVY = {"torch", "transformers", "datasets", "accelerate"}
LOADED = """
import sys
import {module}
print(*sorted(set({heavy}) & set(sys.modules)))
"""


@pytest.mark.parametrize("module", ["memsinks", "memsinks.cli", "memsinks.corpus.prepare"])
def test_a_process_imports_no_library_of_models(module):
    code = LOADED.format(module=module, heavy=HEAVY)
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []
