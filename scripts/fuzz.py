"""What ``make schemathesis`` executes: every route, by its own description in /openapi.json.

The service runs for this alone, with its own data; limits are lifted, because being refused is
not what is looked for. Flows on sale and jobs bought beforehand are made known, so that requests
get past 404. Fails on any 5xx and on any answer the description does not know.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import urllib.request
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
FLOWS = ("text-summary", "text-summary+free", "tailored-letter+free", "csv-profile")
#: Its jobs wait for input, which keeps them interesting for every route about jobs.
ASKING = "tailored-letter+free"
JOBS = 3
_LIFTED = {
    f"TOLLGATE_LIMITS__{policy.upper()}__{field}": value
    for policy in LimitSettings().route_classes
    for field, value in (("RATE", "1000000/second"), ("BURST", "1000000"))
}
_CONFIG = """
[dictionaries.flows]
values = {flows}

[dictionaries.jobs]
values = {jobs}

[dictionaries.waits]
values = [0, 0.1]

[parameters]
flow = {{ dictionary = "flows", probability = 0.8 }}
wait = {{ dictionary = "waits", probability = 1 }}
job_id = {{ dictionary = "jobs", probability = 0.8 }}
"""


def main() -> int:
    data = Path(tempfile.mkdtemp(prefix="tollgate-fuzz-"))
    data.chmod(0o711)  # the servers' account passes through it
    try:
        with stack(data, _LIFTED) as running:
            url = running.service.url
            config = data / "schemathesis.toml"
            jobs = [_bought(url) for _ in range(JOBS)]
            # A list of plain strings is written the same in TOML and in JSON.
            config.write_text(_CONFIG.format(flows=json.dumps(FLOWS), jobs=json.dumps(jobs)))
            command = [
                *(str(PROGRAM), "--config-file", str(config), "run", f"{url}/openapi.json"),
                *("--max-examples", "30", "--checks", ",".join(CHECKS)),
                # A status request may ask to wait for 25 s.
                *("--request-timeout", "40"),
                *sys.argv[1:],
            ]
            return subprocess.run(command, cwd=ROOT, check=False).returncode
    finally:
        shutil.rmtree(data)


def _bought(url: str) -> str:
    """A new job of the flow that asks."""
    with urllib.request.urlopen(f"{url}/{ASKING}/demo") as response:  # noqa: S310 (our own address)
        given = json.load(response)["input"]
    request = urllib.request.Request(  # noqa: S310 (our own address)
        f"{url}/{ASKING}/start_job",
        data=json.dumps({"input_data": given}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as response:  # noqa: S310 (our own address)
        return str(json.load(response)["id"])


if __name__ == "__main__":
    sys.exit(main())
