"""What a finished run ends with, where a number is next to all or next to nothing."""

import json
from pathlib import Path

from simpipe.cli.headline import threshold_lines
from simpipe.engine.rundir import RunDir


def test_only_all_is_100_percent_in_the_terminal_too(tmp_path: Path) -> None:
    on_test = {"accepted": 1.0, "precision": 0.9996, "unknown_accept": 0.0004}
    entry = {"distance": 0.2, "held": True, "on_test": on_test}
    calibration = {"thresholds": {"optimal": entry}, "probability": {"knots": None, "reason": "too few"}}
    (tmp_path / "calibrate").mkdir()
    (tmp_path / "calibrate" / "calibration.json").write_text(json.dumps(calibration), encoding="utf-8")
    told = threshold_lines(RunDir(tmp_path))[0]
    assert "answers 100.0%, precision > 99.9%, unknowns let in < 0.1%" in told
