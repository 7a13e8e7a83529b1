import json
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def write_rows(tmp_path: Path):
    """Write rows as a JSON-lines file in the test's folder."""

    def write(rows: list[Any], name: str = "data.jsonl") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write


@pytest.fixture
def stories() -> list[dict[str, Any]]:
    """Twenty distinct documents of three sources, with metadata of every kind."""
    return [
        {
            "id": f"doc-{i:02d}",
            "source": f"book-{i % 3}",
            "text": f"Story {i}. " + " ".join(f"word{(i * 7 + j) % 31}" for j in range(5 + i)),
            "number": i,
            "score": i / 4,
            "kept": i % 2 == 0,
            "group": f"g{i // 2}",
        }
        for i in range(20)
    ]
