"""The status as Prometheus text, for those who graph their camera."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vcam.foreign_text import plain

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_STATES = ("starting", "live", "paused", "frozen", "idle", "fault")


def prometheus(status: dict[str, Any]) -> str:
    """Render `GET /status` in Prometheus' text format 0.0.4; what is missing is left out."""
    lines: list[str] = []
    for name, kind, text, samples in _families(status):
        values = [(labels, value) for labels, value in samples if isinstance(value, (int, float))]
        if values:
            lines += [f"# HELP vcam_{name} {text}", f"# TYPE vcam_{name} {kind}"]
            lines += [f"vcam_{name}{labels} {float(value):.10g}" for labels, value in values]
    return "\n".join(lines) + "\n"


Samples = list[tuple[str, Any]]


def _families(status: dict[str, Any]) -> Iterator[tuple[str, str, str, Samples]]:
    def labelled(name: str, values: Any, scale: float = 1.0) -> Samples:
        return [
            (_label(**{name: key}), value * scale if isinstance(value, (int, float)) else None)
            for key, value in (values if isinstance(values, dict) else {}).items()
        ]

    state = status.get("state")
    yield "info", "gauge", "Version.", [(_label(version=str(status.get("version", ""))), 1)]
    yield "up_seconds", "gauge", "Time since start.", [("", status.get("uptime_s"))]
    yield (
        "state",
        "gauge",
        "1 for the state it is in.",
        [(_label(state=s), int(s == state)) for s in _STATES],
    )
    yield "frames_per_second", "gauge", "Frames written a second.", [("", status.get("fps"))]
    latency = status.get("latency_ms")
    quantiles = {"p50": "0.5", "p95": "0.95"}
    yield (
        "latency_seconds",
        "gauge",
        "Capture to write.",
        [
            (_label(quantile=quantiles[key]), value / 1000)
            for key, value in (latency if isinstance(latency, dict) else {}).items()
            if key in quantiles and isinstance(value, (int, float))
        ],
    )
    stages = labelled("stage", status.get("stages_ms"), 1e-3)
    yield "stage_seconds", "gauge", "Time a frame spends in each stage.", stages
    frames = labelled("what", status.get("frames"))
    yield "frames_total", "counter", "Frames since start.", frames
    watchers = status.get("watchers")
    count = len(watchers) if isinstance(watchers, list) else None
    yield "watchers", "gauge", "Programs that stream from the camera.", [("", count)]
    yield "cpu_percent", "gauge", "Processor time, of one core.", [("", status.get("cpu_percent"))]
    memory = status.get("rss_mb")
    bytes_held = memory * 2**20 if isinstance(memory, (int, float)) else None
    yield "resident_memory_bytes", "gauge", "Memory held.", [("", bytes_held)]
    revision = status.get("settings_revision")
    yield "settings_revision", "counter", "Changes of settings since start.", [("", revision)]


def _label(**labels: str) -> str:
    inner = ",".join(f'{key}="{_escape(value)}"' for key, value in labels.items())
    return "{" + inner + "}"


def _escape(value: str) -> str:
    return plain(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
