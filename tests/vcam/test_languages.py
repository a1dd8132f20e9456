"""The program in the user's language: whole catalogues, and English where programs read."""

from __future__ import annotations

import ast
import gettext
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests import words as found
from tests.vcam.running import House, until
from vcam import words
from vcam.compose import card
from vcam.system import typefaces
from vcam.tray.view import View
from vcam.words import markup, po

OTHERS = words.LANGUAGES[1:]


@pytest.fixture(autouse=True)
def english_again():
    yield
    words.use("en")


@pytest.mark.parametrize("language", OTHERS)
def test_every_text_is_translated_and_no_translation_is_left_over(language):
    known, used = words.of(language).entries, found.used()

    assert [text for text in used if text not in known] == []
    assert [text for text in known if text not in used] == []


@pytest.mark.parametrize("language", OTHERS)
def test_a_translation_has_the_gaps_of_its_text_and_its_blanks_at_the_ends(language):
    for text, made in words.of(language).entries.items():
        assert sorted(found.GAP.findall(made)) == sorted(found.GAP.findall(text)), text
        assert re.findall(r"`vcam [^`]*`", made) == re.findall(r"`vcam [^`]*`", text), text
        assert made[:1].isspace() == text[:1].isspace(), text
        assert made.endswith("\n") == text.endswith("\n"), text


@pytest.mark.parametrize("language", OTHERS)
@pytest.mark.skipif(shutil.which("msgfmt") is None, reason="apt-get install gettext")
def test_gettext_reads_the_catalogues_as_we_do(language, tmp_path):
    compiled = tmp_path / "vcam.mo"
    source = words.FOLDER / f"{language}.po"
    done = subprocess.run(
        ["msgfmt", "-o", str(compiled), str(source)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr

    theirs = gettext.GNUTranslations(io.BytesIO(compiled.read_bytes()))

    assert {text: theirs.gettext(text) for text in po.read(source)} == po.read(source)


@pytest.mark.parametrize("language", OTHERS)
def test_a_sentence_made_elsewhere_is_found_again_with_its_values(language):
    said = words.of(language)
    for text, made in said.entries.items():
        gaps = re.findall(r"\{(\d)\}", text)
        if not gaps or sum(map(str.isalpha, found.GAP.sub("", text))) < 12:
            continue
        english, theirs = (re.sub(r"\{(\d)\}", r"/dev/video\1", one) for one in (text, made))

        assert said.told(english) == theirs


def test_a_reason_within_a_sentence_is_translated_too_and_names_stay():
    said = words.of("de")

    assert said.told("The camera shows the privacy card: camera unplugged.") == (
        "Die Kamera zeigt das Sichtschutzbild: Kamera abgezogen."
    )
    assert said.told("Who knows this?") == "Who knows this?"
    assert said.told("VBG Camera is not running\nRun `vcam start`.").splitlines() == [
        "VBG Camera läuft nicht",
        "`vcam start` ausführen.",
    ]
    assert words.of("en").told("VBG Camera is not running") == "VBG Camera is not running"


@pytest.mark.parametrize(
    ("environ", "language"),
    [
        ({"LANG": "de_AT.UTF-8"}, "de"),
        ({"LANG": "de_DE.UTF-8", "LC_MESSAGES": "fr_FR.UTF-8"}, "fr"),
        ({"LANG": "de_DE.UTF-8", "LC_ALL": "pt_BR.UTF-8"}, "pt"),
        ({"LANG": "de_DE.UTF-8", "LANGUAGE": "sv:es:ja"}, "es"),
        ({"LANG": "C.UTF-8", "LANGUAGE": "es"}, "en"),
        ({"LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "zh_TW.UTF-8"}, "en"),
        ({"LANG": "sv_SE.UTF-8"}, "en"),
        ({}, "en"),
    ],
)
def test_the_desktop_says_which_language(environ, language, monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")

    assert words.of_desktop(environ) == language


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("de-CH,de;q=0.9,en;q=0.8", "de"),
        ("sv,fr;q=0.5,ja;q=0.7", "ja"),
        ("zh-Hant-TW,es;q=0.1", "es"),
        ("", "en"),
        ("*;q=x", "en"),
    ],
)
def test_a_browser_says_which_language(header, language):
    assert words.accepted(header) == language


def vcam(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vcam", *arguments],
        env=os.environ | {"PYTHONIOENCODING": "utf-8"} | environ,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    for name in ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG", "VCAM_CONTROL_LANGUAGE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_the_command_line_speaks_the_desktops_language_and_a_setting_outranks_it(home):
    assert "die Kamera starten" in vcam("--help", LANG="de_DE.UTF-8").stdout
    assert "Lancer `vcam start`" in vcam("status", LANG="fr_FR.UTF-8").stderr
    told = vcam("set", "output.fps", "fast", LANG="es_ES.UTF-8").stderr
    assert "output.fps es 'fast'; se esperaba un número de 1 a 120" in told

    assert vcam("set", "control.language", "ja", LANG="de_DE.UTF-8").returncode == 0

    assert "カメラを起動する" in vcam("--help", LANG="de_DE.UTF-8").stdout
    assert "die Kamera" in vcam("--help", VCAM_CONTROL_LANGUAGE="de").stdout
    assert "start the camera" in vcam("--help", VCAM_CONTROL_LANGUAGE="en").stdout


def test_the_doctor_speaks_to_people_and_stays_english_for_programs(home):
    people = vcam("doctor", LANG="de_DE.UTF-8").stdout
    programs = json.loads(vcam("doctor", "--json", LANG="de_DE.UTF-8").stdout)

    for finding in programs["findings"]:
        assert words.of("de").told(finding["what"]) in people
        assert finding["what"] not in people


def test_a_daemons_log_stays_english(home):
    done = vcam("start", VCAM_OUTPUT_FPS="fast", LANG="de_DE.UTF-8", VCAM_DAEMON="1")

    assert "vcam: VCAM_OUTPUT_FPS is 'fast', expected a number" in done.stderr


def test_the_tray_says_a_state_in_the_language_in_use():
    words.use("pt")

    assert View(state="paused").headline == "Em pausa: os outros veem a tela de privacidade"
    assert View(state="fault", reason="camera unplugged").headline.endswith("câmera desconectada")


def test_what_is_printed_or_put_in_a_menu_is_translated():
    """Text that stands in such a call as it is reaches the user in English."""
    shown = {"say", "MenuItem", "_check", "_radio", "_notify"}
    left = []
    for name in ("commands", "tray", "doctor"):
        for path in sorted((found.ROOT / "vcam" / name).glob("*.py")):
            if path.name.startswith("bench"):
                continue
            for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                function = getattr(call, "func", None)
                called = getattr(function, "id", "") or getattr(function, "attr", "")
                if called in shown:
                    left += [f"{path.name}: {t}" for t in map(plain_text, call.args) if t]

    assert left == []


def plain_text(node: ast.expr) -> str:
    """Words of a sentence that stands in the code untranslated."""
    parts = node.values if isinstance(node, ast.JoinedStr) else [node]
    text = " ".join(str(part.value) for part in parts if isinstance(part, ast.Constant))
    return text if len(re.findall(r"\b[A-Za-z]{3,}", text.replace("vcam:", ""))) > 1 else ""


@pytest.mark.parametrize("language", OTHERS)
def test_the_card_gives_the_reason_in_its_language_where_a_typeface_can_write_it(language):
    said, (path, _) = card.typeface_for(language)
    if not path:
        pytest.skip("apt-get install fontconfig fonts-dejavu-core fonts-noto-cjk")
    english, theirs = card.Card(640, 360), card.Card(640, 360, language=language)

    assert said.language == language
    assert np.array_equal(english.frame(0, 0).data, theirs.frame(0, 0).data)
    for reason in ("camera unplugged", "looking for you"):
        told = theirs.frame(0, 0, reason).data
        assert not np.array_equal(told, english.frame(0, 0, reason).data)


@pytest.mark.parametrize("language", ["ja", "zh"])
def test_without_a_typeface_for_it_the_card_is_english(language, monkeypatch):
    monkeypatch.setattr(typefaces, "of", lambda language: iter(()))
    reason = "camera unplugged"

    there = card.Card(640, 360, language=language).frame(0, 0, reason).data

    assert np.array_equal(there, card.Card(640, 360).frame(0, 0, reason).data)


def test_a_change_of_the_language_reaches_the_card(monkeypatch, tmp_path):
    with House(monkeypatch, tmp_path) as house:
        before = house.outlet.card.frame(0, 0, "camera unplugged").data

        house.settings.change({"control": {"language": "de"}})

        until(
            lambda: (
                not np.array_equal(house.outlet.card.frame(0, 0, "camera unplugged").data, before)
            )
        )


def test_the_page_is_put_into_another_language_and_its_commands_and_names_stay():
    page = '<html lang="en"><p>Undo <b>Live</b></p><img alt="Preview"><code>Live</code></html>'

    made = markup.translated(page, words.of("de"))

    assert made == (
        '<html lang="de"><p>Rückgängig <b>Live</b></p><img alt="Vorschau"><code>Live</code></html>'
    )
    assert list(markup.texts(page)) == ["Undo", "Live", "Preview"]
    assert markup.translated(page, words.of("en")) == page
