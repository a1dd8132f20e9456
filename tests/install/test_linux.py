"""install/linux.sh on five distributions: what it calls, what it writes, what it leaves alone."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from .conftest import REPOSITORY, Machine

PLAIN = 'options v4l2loopback devices=1 video_nr=10 card_label="VBG Camera" exclusive_caps=1\n'
APT = "apt-get install -y --no-install-recommends"

EXPECTED = {
    "debian": [
        "apt-get update",
        f"{APT} linux-headers-6.1.0-35-amd64 linux-headers-amd64 v4l2loopback-dkms "
        "v4l2loopback-utils python3-venv libturbojpeg0",
        "modprobe v4l2loopback",
    ],
    "ubuntu": [
        "apt-get update",
        f"{APT} linux-headers-6.8.0-60-generic linux-headers-generic v4l2loopback-dkms "
        "v4l2loopback-utils python3-venv libturbojpeg0",
        "modprobe v4l2loopback",
    ],
    "fedora": [
        "dnf install -y https://mirrors.rpmfusion.org/free/fedora/"
        "rpmfusion-free-release-42.noarch.rpm",
        "dnf install -y kernel-devel-6.14.9-300.fc42.x86_64 akmod-v4l2loopback v4l2loopback "
        "turbojpeg",
        "akmods --force --kernels 6.14.9-300.fc42.x86_64",
        "modprobe v4l2loopback",
    ],
    "arch": [
        "pacman -S --needed --noconfirm linux-zen-headers v4l2loopback-dkms v4l2loopback-utils",
        "modprobe v4l2loopback",
    ],
    "opensuse": [
        "zypper --non-interactive install v4l2loopback-kmp-default v4l2loopback-utils "
        "libturbojpeg0",
        "modprobe v4l2loopback",
    ],
}


@pytest.mark.parametrize("machine", EXPECTED, indirect=True)
def test_each_distribution_gets_its_own_packages(
    machine: Machine, request: pytest.FixtureRequest
) -> None:
    name = request.node.callspec.params["machine"]
    if name == "arch":
        base = machine.root / f"usr/lib/modules/{machine.environ['KERNEL']}/pkgbase"
        base.parent.mkdir(parents=True)
        base.write_text("linux-zen\n")

    done = machine.install()

    assert done.returncode == 0, done.stdout + done.stderr
    calls = [c for c in machine.calls("systemctl") if not c.startswith("pacman -Q")]
    assert calls == EXPECTED[name]
    assert machine.text("/etc/modprobe.d/vcam.conf") == PLAIN
    assert machine.text("/etc/modules-load.d/vcam.conf") == "v4l2loopback\n"


def test_every_root_step_is_told_before_it_is_taken(machine: Machine) -> None:
    said = machine.install().stdout

    for step in ("Packages (root)", "Module options (root)", "Virtual camera (root)"):
        assert step in said
    assert said.index("Packages (root)") < said.index("$ apt-get update")
    assert PLAIN.strip() in said


def test_the_user_gets_program_service_tray_menu_entry_icon_completion_and_manual(
    machine: Machine,
) -> None:
    machine.install()

    home = machine.home
    service = (home / ".config/systemd/user/vcam.service").read_text()
    assert "ExecStart=%h/.local/share/vcam/venv/bin/vcam start --foreground" in service
    program = home / ".local/share/vcam/venv/bin/vcam"
    tray = (home / ".config/autostart/vbg-camera-tray.desktop").read_text()
    assert f"Exec={program} tray" in tray
    for path in (
        ".local/bin/vcam",
        ".local/share/applications/vbg-camera.desktop",
        ".local/share/icons/hicolor/scalable/apps/vbg-camera.svg",
        ".local/share/bash-completion/completions/vcam",
        ".local/share/zsh/site-functions/_vcam",
        ".config/fish/completions/vcam.fish",
        ".local/share/man/man1/vcam.1",
    ):
        assert (home / path).exists(), path
    assert [c for c in machine.calls() if c.startswith("systemctl --user ")][-2:] == [
        "systemctl --user is-active --quiet vcam.service",
        "systemctl --user start vcam.service",
    ]


def test_a_dry_run_shows_the_commands_and_changes_nothing(machine: Machine) -> None:
    before = machine.tree()

    done = machine.install("--dry-run")

    assert done.returncode == 0, done.stderr
    assert "$ modprobe v4l2loopback" in done.stdout
    assert machine.calls() == [
        "systemctl --user show-environment",
        "systemctl --user is-enabled --quiet vcam.service",
        "systemctl --user is-active --quiet vcam.service",
    ]
    assert machine.tree() == before


@pytest.mark.parametrize("machine", EXPECTED, indirect=True)
def test_a_second_run_changes_nothing(machine: Machine) -> None:
    machine.install()
    before, packages = machine.tree(), machine.packages()
    machine.calls()

    done = machine.install(HAVE="rpmfusion-free-release")

    assert done.returncode == 0, done.stderr
    after = machine.tree()
    changed = {path for path in before | after if before.get(path) != after.get(path)}
    assert {Path(path).name for path in changed} <= {"vcam"}  # pip wrote the program again
    assert machine.packages() == packages
    assert [c for c in machine.calls("systemctl") if not c.startswith("pacman -Q")] == []


@pytest.mark.parametrize("machine", EXPECTED, indirect=True)
def test_uninstalling_restores_the_list_of_files_and_packages(machine: Machine) -> None:
    before, packages = set(machine.tree()), machine.packages()
    machine.install()
    assert set(machine.tree()) != before

    done = machine.install("--uninstall")

    assert done.returncode == 0, done.stderr
    assert set(machine.tree()) == before
    assert machine.packages() - {"https://mirrors.rpmfusion.org/free/fedora/"
                                 "rpmfusion-free-release-42.noarch.rpm"} == packages  # fmt: skip


def test_an_upgrade_leaves_a_camera_that_runs_alone(machine: Machine) -> None:
    machine.install()
    machine.calls()
    program = machine.home / ".local/share/vcam/venv/bin/vcam"
    program.write_text(program.read_text().replace("0.1.0", "0.0.9"))  # an older one was there

    said = machine.install(ACTIVE="1").stdout

    assert "keeps running as vcam 0.0.9 until `vcam stop`" in said
    calls = [call for call in machine.calls() if call.startswith("systemctl")]
    assert "systemctl --user is-active --quiet vcam.service" in calls
    assert not [call for call in calls if re.search(r" (re)?start|stop", call)]


def test_uninstalling_keeps_what_was_there_before_and_what_is_the_users(machine: Machine) -> None:
    (machine.root.parent / "packages").write_text("v4l2loopback-dkms\n")
    mine = machine.home / ".config/vcam/config.toml"
    mine.parent.mkdir(parents=True)
    mine.write_text("[output]\nfps = 15\n")
    machine.install()

    machine.install("--uninstall")

    assert machine.packages() == {"v4l2loopback-dkms"}
    assert mine.exists()


def test_what_the_packages_brought_goes_and_what_others_brought_stays(machine: Machine) -> None:
    (machine.root.parent / "packages").write_text("libolder\n")
    machine.install()
    assert "libbrought" in machine.packages()
    machine.calls()

    machine.install("--uninstall")

    assert machine.packages() == {"libolder"}
    (purge,) = [call for call in machine.calls() if call.startswith("apt-get purge")]
    assert "--auto-remove" not in purge  # it would take what other programs left behind


def test_what_somebody_else_needs_by_now_stays(machine: Machine) -> None:
    machine.install()

    done = machine.install("--uninstall", NEEDED="compiler")

    assert done.returncode == 0, done.stderr
    assert "compiler needs some of what came with them" in done.stdout
    assert machine.packages() == {"libbrought"}


def test_purge_takes_the_users_own_files_too(machine: Machine) -> None:
    before = set(machine.tree())
    machine.install()
    for path in (
        ".config/vcam/config.toml",
        ".cache/vcam/model.blob",
        ".local/state/vcam/log/vcam.log",
        ".local/share/vcam/backgrounds/sea.jpg",
    ):
        (machine.home / path).parent.mkdir(parents=True, exist_ok=True)
        (machine.home / path).touch()

    machine.install("--uninstall", "--purge")

    assert set(machine.tree()) == before


def test_obs_keeps_its_device_and_ours_comes_beside_it(machine: Machine) -> None:
    obs = machine.root / "etc/modprobe.d/obs.conf"
    line = 'options v4l2loopback video_nr=10 card_label="OBS Virtual Camera" exclusive_caps=1\n'
    obs.write_text(line)

    machine.install()

    assert obs.read_text() == line
    assert machine.text("/etc/modprobe.d/vcam.conf") == (
        "options v4l2loopback devices=2 video_nr=10,11 "
        'card_label="OBS Virtual Camera,VBG Camera" exclusive_caps=1,1\n'
    )


def test_devices_without_number_or_label_keep_the_modules_own_default(machine: Machine) -> None:
    (machine.root / "etc/modprobe.d/droidcam.conf").write_text(
        "options v4l2loopback devices=2 max_buffers=4\n"
    )

    machine.install()

    assert machine.text("/etc/modprobe.d/vcam.conf") == (
        "options v4l2loopback devices=3 video_nr=-1,-1,10 "
        'card_label="Dummy video device (0x0000),Dummy video device (0x0001),VBG Camera" '
        "exclusive_caps=0,0,1 max_buffers=4\n"
    )


def test_our_options_are_read_after_those_of_every_other_file(machine: Machine) -> None:
    (machine.root / "etc/modprobe.d/webcam.conf").write_text(
        'options v4l2loopback video_nr=5 card_label="Desk"\n'
    )

    machine.install()

    assert not (machine.root / "etc/modprobe.d/vcam.conf").exists()
    assert "video_nr=5,10" in machine.text("/etc/modprobe.d/zz-vcam.conf")


def test_a_taken_number_is_passed_over(machine: Machine) -> None:
    webcam = machine.root / "sys/class/video4linux/video10"
    webcam.mkdir(parents=True)
    (webcam / "name").write_text("HD Webcam\n")

    machine.install("--dry-run")
    done = machine.install("--module-only")

    assert "video_nr=11" in machine.text("/etc/modprobe.d/vcam.conf"), done.stderr


def test_a_loaded_module_is_not_unloaded_under_another_program(machine: Machine) -> None:
    machine.has_loopback(8, "OBS Virtual Camera")

    done = machine.install()

    assert done.returncode == 0, done.stderr
    calls = machine.calls("systemctl", "apt-get")
    assert calls == ["v4l2loopback-ctl add -n VBG Camera -x 1 /dev/video10"]


def test_secure_boot_is_explained_with_its_three_steps(machine: Machine) -> None:
    refusal = "could not insert 'v4l2loopback': Key was rejected by service"

    done = machine.install(REFUSES=refusal)

    assert done.returncode == 1
    assert "Secure Boot refuses the module" in done.stderr
    assert "sudo mokutil --import /var/lib/dkms/mok.pub" in done.stderr
    assert "Enroll MOK" in done.stderr
    assert (machine.home / ".local/bin/vcam").is_symlink()  # the rest was set up all the same


def test_a_module_missing_for_this_kernel_says_so(machine: Machine) -> None:
    done = machine.install(REFUSES="FATAL: Module v4l2loopback not found in directory")

    assert done.returncode == 1
    assert "There is no v4l2loopback for kernel 6.1.0-35-amd64" in done.stderr


def test_pip_failing_is_told_and_the_exit_code_says_it(machine: Machine) -> None:
    done = machine.install("--no-module", REFUSES_PIP="1")

    assert done.returncode == 1
    assert "pip could not install" in done.stderr


def test_a_wrong_option_is_refused_with_the_usage(machine: Machine) -> None:
    done = machine.install("--frobnicate")

    assert done.returncode == 2
    assert "usage:" in done.stderr
    assert machine.calls() == []


def test_the_scripts_are_clean_in_shellchecks_eyes() -> None:
    if not shutil.which("shellcheck"):
        pytest.skip("apt-get install shellcheck")
    scripts = sorted((REPOSITORY / "install").rglob("*.sh"))

    done = subprocess.run(
        ["shellcheck", *map(str, scripts)], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout
