"""What is said of an audit: found, clean in part, or not done; never clean where nobody was asked."""

from __future__ import annotations

import json
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

# A script is no package, so it is found by its place.
_SPEC = spec_from_file_location("audit", Path(__file__).parents[2] / "scripts" / "audit.py")
assert _SPEC is not None
assert _SPEC.loader is not None
_AUDIT = module_from_spec(_SPEC)
_SPEC.loader.exec_module(_AUDIT)
verdict = _AUDIT.verdict

CLEAN = {"name": "a", "version": "1", "vulns": []}
UNKNOWN = {"name": "b", "skip_reason": "Dependency not found on PyPI"}
BAD = {"name": "c", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3"], "aliases": []}]}


def said(*packages: dict[str, object]) -> tuple[str, int]:
    sentences, code = verdict(json.dumps({"dependencies": packages, "fixes": []}), "")
    return "\n".join(sentences), code


def test_found() -> None:
    assert said(CLEAN, BAD) == (
        "audit: c 2: PYSEC-1; mended in 3\naudit: 1 known vulnerabilities in 2 of 2 packages",
        1,
    )


def test_nothing_found() -> None:
    assert said(CLEAN) == ("audit: 0 known vulnerabilities in 1 of 1 packages", 0)


def test_found_in_part() -> None:
    text, code = said(CLEAN, UNKNOWN)
    assert code == 0
    assert "not audited, for the index does not know them: b\n" in text
    assert text.endswith("0 known vulnerabilities in 1 of 2 packages")


def test_a_mirror_that_knows_no_advisories_is_no_audit() -> None:
    text, code = said(UNKNOWN)
    assert code == 0
    assert "SKIPPED, nothing was audited" in text


def test_nobody_answers() -> None:
    (text,), code = verdict("", "Traceback …\nrequests.exceptions.ConnectionError: Max retries exceeded")
    assert code == 0
    assert "SKIPPED, nothing was audited" in text
    assert "Max retries exceeded" in text


def test_it_fails() -> None:
    (text,), code = verdict("", "error: no such option")
    assert code == 2
    assert "no such option" in text
    assert verdict("[]", "")[1] == verdict("", "")[1] == 2
