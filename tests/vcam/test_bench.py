"""`vcam bench` prints what the documents promise."""

from __future__ import annotations

import json
import sys

import pytest

from segmentation.engines import weights_dir
from vcam import cli
from vcam.commands import bench, bench_peer
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


PEER = """
import hashlib, os, struct, sys
into, out = sys.stdin.buffer, sys.stdout.buffer
while len(head := into.read(4)) == 4:
    frame = into.read(struct.unpack("<I", head)[0])
    for _ in range(TIMES):
        hashlib.sha256(frame * 20).digest()
    out.write(f"{len(frame)} {os.environ['VCAM_WIDTH']}\\n".encode())
    out.flush()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads another process' clock")
def test_another_program_takes_the_same_frames_by_turns(model, tmp_path, capsys):
    def share(times: int) -> float:
        (tmp_path / "peer.py").write_text(PEER.replace("TIMES", str(times)))
        command = f"{sys.executable} {tmp_path / 'peer.py'}"
        words = ["--json", "--frames", "6", "--model", model, "--case", "720p-yuyv-picture"]
        assert measured([*words, "--peer-pipeline", command]) == 0
        (case,) = json.loads(capsys.readouterr().out)["cases"]
        ratio = case["pipeline_cpu_ms"] / case["imdecode_cpu_ms"]
        assert case["pipeline_ratio"] == pytest.approx(ratio, rel=0.02)
        return float(case["pipeline_cpu_ms"])

    little, much = share(1), share(4)

    assert little > 5  # 37 MB through SHA-256
    assert 2 < much / little < 8


@pytest.mark.skipif(sys.platform != "linux", reason="reads another process' clock")
@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("/nowhere/peer", "cannot be started"),
        ("true", "has ended"),
        (f"{sys.executable} -c 'import time; time.sleep(60)'", "has not answered within 2 s"),
    ],
)
def test_a_peer_that_does_not_answer_is_a_usage_error(model, monkeypatch, command, said):
    monkeypatch.setattr(bench_peer, "FIRST_WITHIN", 2.0)

    with pytest.raises(UsageError, match=said) as told:
        measured(["--frames", "1", "--case", "720p-yuyv-picture", "--peer-pipeline", command])
    assert told.value.hint
