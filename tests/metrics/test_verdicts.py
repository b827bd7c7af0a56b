"""What gains say: unseen labels count first, and nothing is claimed without an interval."""

import pytest

from simpipe.metrics.ladder import shortcut
from simpipe.metrics.verdicts import judge, training_advice

BOUNDS = {
    "better": (0.01, 0.1),
    "worse": (-0.1, -0.01),
    "no measurable difference": (-0.01, 0.1),
    "no interval": (None, None),
}


def gain(block, verdict):
    low, high = BOUNDS[verdict]
    return {
        "block": block,
        "metric": "accuracy@1" if block == "seen" else "recall@1",
        "low": low,
        "high": high,
    }


@pytest.mark.parametrize("verdict", BOUNDS)
def test_a_gain_counts_only_if_its_interval_leaves_zero(verdict):
    assert judge(gain("seen", verdict)) == verdict
    assert judge({"low": 0.0, "high": 0.1}) == "no measurable difference"


@pytest.mark.parametrize(
    ("seen", "unseen", "told"),
    [
        ("better", "better", None),
        ("better", None, None),
        ("better", "worse", "is worse than the pretrained features on labels that it never saw"),
        (
            "better",
            "no measurable difference",
            "does not beat the pretrained features on labels that it never",
        ),
        ("no measurable difference", "no interval", "does not beat the pretrained features on new images"),
        ("worse", None, "is worse than the pretrained features on new images"),
        (None, "no interval", None),
        ("better", "no interval", None),
    ],
)
def test_advice_on_training(seen, unseen, told):
    gains = [gain(block, each) for block, each in (("seen", seen), ("unseen", unseen)) if each]
    advice = training_advice({"gain": gains})
    assert advice is None if told is None else told in advice and "train.ship" in advice
    assert training_advice({"gain": gains, "trained_here": False}) is None


@pytest.mark.parametrize(("ranks", "told"), [("better", False), ("no measurable difference", True)])
def test_training_that_ranks_better_pays(ranks, told):
    gains = [gain("seen", "no measurable difference"), {**gain("seen", ranks), "metric": "map@r"}]
    assert (training_advice({"gain": gains}) is not None) == told
    gains[0] = gain("seen", "worse")
    assert training_advice({"gain": gains}) is not None


def rung(name, value, half=0.02):
    bounds = {"low": value - half, "high": value + half} if half else {"low": None, "high": None}
    return {"rung": name, "metrics": {"accuracy@1": {"value": value} | bounds}}


@pytest.mark.parametrize(
    ("chance", "thumbnail", "trained", "suspicious"),
    [
        (0.1, 0.8, 0.9, True),
        (0.1, 0.4, 0.9, False),
        (0.1, 0.115, 0.12, False),  # neither is surely more than guessing
        (0.1, 0.05, 0.09, False),
        (0.0, 0.0, 0.0, False),
        (0.1, 0.95, 0.9, True),
    ],
)
def test_a_shortcut_beats_chance_and_comes_near(chance, thumbnail, trained, suspicious):
    found = shortcut([rung("chance", chance, 0), rung("thumbnail", thumbnail), rung("trained", trained)])
    assert found["suspicious"] is suspicious
    if trained > chance:
        assert found["share"] == pytest.approx((thumbnail - chance) / (trained - chance), abs=1e-6)


def test_without_pixels_there_is_no_talk_of_a_shortcut():
    assert shortcut([rung("chance", 0.1, 0), rung("trained", 0.9)]) == {}
