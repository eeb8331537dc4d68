"""The judge of the soak: what it takes for growth, and what for chance."""

import random

import pytest
from tests.system.soak import MEASURES, SAMPLES, grown

LEVEL = 100.0


def samples(column: int, slope: float) -> list[list[float]]:
    """Noise around a level; one column rises by `slope` times the level in the whole time."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    rows = [[LEVEL * chance.uniform(0.95, 1.05) for _ in MEASURES] for _ in range(SAMPLES)]
    for number, row in enumerate(rows):
        row[column] += LEVEL * slope * number / SAMPLES
    return rows


@pytest.mark.parametrize("column", range(len(MEASURES)))
def test_a_level_is_no_growth_and_what_goes_on_rising_is(column: int) -> None:
    assert grown(samples(column, 0.0)) == []
    (found,) = grown(samples(column, 6.0))
    assert found.startswith(MEASURES[column].title)


def test_what_rises_at_the_beginning_alone_is_no_growth() -> None:
    """Caches fill and pools open; then they stay."""
    rows = samples(0, 0.0)
    for number, row in enumerate(rows):
        row[0] *= min(1.0, number / (SAMPLES * 0.3))
    assert grown(rows) == []
