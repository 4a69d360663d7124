"""What ``make schemathesis`` executes: every route, by its own description in /openapi.json.

The service runs for this alone, with its own data; limits are lifted, because being refused is
not what is looked for. Fails on any 5xx and on any answer the description does not know.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from scripts.running import ROOT
from scripts.stack import stack
from service.settings import LimitSettings

PROGRAM = ROOT / ".venv-schemathesis" / "bin" / "schemathesis"
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)
_LIFTED = {
    f"TOLLGATE_LIMITS__{policy.upper()}__{field}": value
    for policy in LimitSettings.model_fields
    for field, value in (("RATE", "1000000/second"), ("BURST", "1000000"))
}


def main() -> int:
    data = Path(tempfile.mkdtemp(prefix="tollgate-fuzz-"))
    try:
        with stack(data, _LIFTED) as running:
            command = [
                *(str(PROGRAM), "run", f"{running.service.url}/openapi.json"),
                *("--max-examples", "30", "--checks", ",".join(CHECKS)),
                *sys.argv[1:],
            ]
            return subprocess.run(command, cwd=ROOT, check=False).returncode
    finally:
        shutil.rmtree(data)


if __name__ == "__main__":
    sys.exit(main())
