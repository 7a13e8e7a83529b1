"""Keep the answers of an audit, and the figures that decided them, in a file that is small enough for results/.

python scripts/audit_summary.py AUDIT results/audit/NAME.json
"""

import json
import sys
from pathlib import Path

from memsinks.auditing.calibration import CALIBRATION
from memsinks.auditing.document import read_audit

KEPT = ("format_version", "time", "run", "target", "unseen", "conditions", "verdicts", "limits", "versions", "seconds")

TOLD = ("loss", "linear probe", "head start")
"""Measures that decide nothing and are told of in docs/audit/."""


def main() -> None:
    """Run the script."""
    audit, output = map(Path, sys.argv[1:])
    content = read_audit(audit)
    figures = [figure for figure in content["figures"] if figure["question"] or figure["measure"].startswith(TOLD)]
    kept = {key: content[key] for key in KEPT} | {"figures": figures}
    calibration = audit / CALIBRATION
    if calibration.is_file():
        kept["calibration"] = json.loads(calibration.read_text("utf-8"))
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
