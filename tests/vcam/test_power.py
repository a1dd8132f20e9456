"""Where the power comes from, read from folders like the kernel's."""

from __future__ import annotations

import pytest

from vcam.system.power import on_battery

CASES = {
    "a desktop": ([], False),
    "plugged in": (
        [{"type": "Mains", "online": "1"}, {"type": "Battery", "status": "Full"}],
        False,
    ),
    "unplugged": ([{"type": "Mains"}, {"type": "Battery", "status": "Discharging"}], True),
    "a mouse": ([{"type": "Battery", "status": "Discharging", "scope": "Device"}], False),
    "no word": ([{"type": "Battery"}], False),
}


@pytest.mark.parametrize(("supplies", "battery"), CASES.values(), ids=CASES)
def test_a_battery_that_empties_counts_if_it_is_this_machines(tmp_path, supplies, battery):
    for number, words in enumerate(supplies):
        folder = tmp_path / f"supply{number}"
        folder.mkdir()
        for name, word in words.items():
            (folder / name).write_text(f"{word}\n")

    assert on_battery(tmp_path) is battery
