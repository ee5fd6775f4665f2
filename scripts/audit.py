"""Known vulnerabilities of the packages in constraints.txt: ``tox -e audit``.

pip-audit asks the advisories of PyPI. Where it reaches nobody, or a mirror that knows no advisories, it is said that
nothing was audited: pip-audit itself ends such a run as one without findings.

Exit codes: 0 nothing found, or skipped, as the last line says; 1 vulnerabilities were found; 2 pip-audit failed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

UNREACHED = ("ConnectionError", "ConnectTimeout", "ReadTimeout", "ProxyError", "SSLError", "Max retries", "HTTPError")
"""Words of errors of the network in what pip-audit says."""
MOST_SHOWN = 8


def main(arguments: Sequence[str]) -> int:
    """Audit a file of pins; returns the exit code."""
    (file,) = arguments
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip_audit", "--requirement", str(Path(file)), "--no-deps", "--disable-pip"),
            *("--progress-spinner", "off", "--format", "json"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    sentences, code = verdict(done.stdout, done.stderr)
    print("\n".join(sentences))
    return code


def verdict(said: str, complained: str) -> tuple[list[str], int]:
    """Sentences on an audit, and the exit code.

    Args:
        said: what pip-audit wrote as JSON; empty or something else where it failed.
        complained: what it wrote to standard error.
    """
    try:
        packages: list[Mapping[str, Any]] = json.loads(said)["dependencies"]
    except (ValueError, KeyError, TypeError):
        last = (complained.strip().splitlines() or ["without a word"])[-1][:300]
        if any(word in complained for word in UNREACHED):
            return [f"audit: SKIPPED, nothing was audited: the advisories cannot be reached ({last})"], 0
        return [f"audit: pip-audit failed: {last}"], 2
    unknown = sorted(one["name"] for one in packages if "skip_reason" in one)
    found = [(one, item) for one in packages for item in one.get("vulns", ())]
    if len(unknown) == len(packages):
        return [f"audit: SKIPPED, nothing was audited: the index knows none of the {len(packages)} packages"], 0
    sentences = [
        f"audit: {one['name']} {one['version']}: {item['id']}; mended in {', '.join(item['fix_versions']) or 'none'}"
        for one, item in found
    ]
    if unknown:
        more = ", …" if len(unknown) > MOST_SHOWN else ""
        sentences.append(
            f"audit: not audited, for the index does not know them: {', '.join(unknown[:MOST_SHOWN])}{more}"
        )
    count = len(packages) - len(unknown)
    sentences.append(f"audit: {len(found)} known vulnerabilities in {count} of {len(packages)} packages")
    return sentences, int(bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
