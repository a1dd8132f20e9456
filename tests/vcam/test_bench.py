"""`vcam bench` prints what the documents promise."""

from __future__ import annotations

import json

import pytest

from segmentation.engines import weights_dir
from vcam import cli
from vcam.commands import bench
from vcam.errors import UsageError


@pytest.fixture
def model() -> str:
    return str(weights_dir() / "bisenet-small-int8.xml")


def measured(words: list[str]) -> int:
    """The exit code of a command, whose errors are not printed but raised."""
    options = cli.build_parser().parse_args(["bench", *words])
    return options.run(options)


def test_json_has_the_promised_keys(model, capsys):
    code = measured(["--json", "--frames", "3", "--model", model, "--case", "720p-yuyv-picture"])

    report = json.loads(capsys.readouterr().out)
    assert code == 0
    assert {"machine", "cases", "rss_mb", "start_s"} <= report.keys()
    (case,) = report["cases"]
    assert case["name"] == "720p-yuyv-picture"
    assert {"cpu_ms", "wall_ms", "p95_ms", "imdecode_cpu_ms", "ratio", "stages"} <= case.keys()
    assert case["ratio"] == pytest.approx(case["cpu_ms"] / case["imdecode_cpu_ms"], rel=0.01)
    assert sum(case["stages"].values()) == pytest.approx(case["cpu_ms"], rel=0.5)


def test_every_promised_case_is_there():
    names = {case.name for case in bench.cases()}

    assert {
        "720p-mjpg-picture",
        "720p-mjpg-blur",
        "720p-yuyv-picture",
        "1080p-mjpg-picture",
    } <= names


def test_a_peer_is_measured_beside(model, capsys):
    peer = str(weights_dir() / "bisenet-small.xml")

    measured(
        [
            "--json",
            "--frames",
            "2",
            "--model",
            model,
            "--peer",
            peer,
            "--case",
            "720p-mjpg-blur",
        ]
    )

    report = json.loads(capsys.readouterr().out)
    assert report["peer"] == "bisenet-small"
    assert report["cases"][0]["peer_cpu_ms"] > 0


def test_the_table_names_the_machine(model, capsys):
    measured(["--frames", "2", "--model", model, "--case", "720p-yuyv-blur"])

    out = capsys.readouterr().out
    assert "imdecode" in out
    assert "Start to first composite" in out


def test_an_unknown_case_is_a_usage_error():
    with pytest.raises(UsageError, match="no benchmark case '8k'"):
        measured(["--case", "8k"])


@pytest.mark.slow
def test_memory_is_flat_over_twenty_thousand_frames():
    segmenter = bench._open("auto", "balanced", 1)
    loops = [bench._Loop(case, segmenter) for case in bench.cases() if case.size == "720p"]
    held = []

    for i in range(20_000):
        loops[i // 50 % len(loops)].step(i)
        if i % 500 == 499:
            held.append(bench.rss_mb())

    print(
        f"{held[0]:.0f} MB after 500 frames, {held[4]:.0f} after 2,500, {held[-1]:.0f} at the end"
    )
    assert max(held[4:]) - held[4] < 4
    segmenter.close()
