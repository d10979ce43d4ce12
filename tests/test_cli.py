"""`latentode demo`, as a newcomer calls it."""

from __future__ import annotations

import os
import re
import runpy
import sys
from pathlib import Path

import pytest
from matplotlib import pyplot as plt
from matplotlib.image import imread
from typer.testing import CliRunner

from latentode.cli import app
from latentode.cli import demos as demos_module
from latentode.version import __version__
from latentode.versions import engine_line

FIGURES = r"-?\d+\.\d{3}"


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def run(*arguments: str):
    return CliRunner().invoke(app, list(arguments))


def demo(tmp_path: Path, *arguments: str):
    """Output of a demo in quick form, and its picture."""
    picture = tmp_path / "picture.png"
    result = run("demo", "--quick", "--out", str(picture), *arguments)
    assert result.exit_code == 0, result.output
    return result, picture


def check(result, picture: Path, report: str) -> None:
    lines = result.stdout.splitlines()
    assert re.fullmatch(report, lines[0]), lines[0]
    assert lines[-2] == "quick: so few series and epochs show that all works, not how well"
    assert re.fullmatch(rf"picture: {re.escape(str(picture))} \(\d+ s\)", lines[-1])
    assert "epoch" in result.stderr  # the progress bar
    height, width, _ = imread(picture).shape
    assert height > 300
    assert width > 500


def report(what: str, unit: str, rivals: str) -> str:
    errors = ", ".join(f"{name} {FIGURES}" for name in ("latent ODE", *rivals.split("; ")))
    return f"forecast of the {what}: {unit} {errors}; the 90 % interval holds \\d+ % of the observations"


def test_the_demo_on_spirals(tmp_path):
    result, picture = demo(tmp_path)
    check(result, picture, report("next 100 times of \\d+ spirals", "RMSE", "last value; series mean"))
    assert re.fullmatch(
        r"interpolation: RMSE \d\.\d{3} \(noise of the observations: 0\.1\)", result.stdout.splitlines()[1]
    )
    assert result.stderr.startswith("latentode demo: spirals (quick)")  # before anything slow
    again, _ = demo(tmp_path)
    assert again.stdout.splitlines()[:2] == result.stdout.splitlines()[:2]


def test_the_demo_on_co2(tmp_path):
    result, picture = demo(tmp_path, "--data", "co2")
    rivals = "last value; series mean; last year again"
    check(result, picture, report("last 5 years", re.escape("RMSE [ppm]"), rivals))


@pytest.mark.skipif(
    "LATENTODE_DATA_HOME" not in os.environ,
    reason="needs LATENTODE_DATA_HOME with the PhysioNet 2012 archives",
)
def test_the_demo_on_physionet2012(tmp_path):
    result, picture = demo(tmp_path, "--data", "physionet2012")
    rivals = "training mean; last value; series mean"
    check(result, picture, report("second day of \\d+ stays", "MSE / variance", rivals))


def test_a_corrupt_archive_ends_with_a_message_and_no_traceback(tmp_path):
    archive = tmp_path / "physionet2012" / "set-a.tar.gz"
    archive.parent.mkdir()
    archive.write_bytes(b"not an archive")
    picture = tmp_path / "p.png"
    result = run(
        "demo", "--quick", "--data", "physionet2012", "--data-home", str(tmp_path), "--out", str(picture)
    )
    assert result.exit_code == 1
    assert f"error: {archive} is not usable" in result.stderr
    assert "Traceback" not in result.output
    assert not picture.exists()


def test_pictures_have_a_name_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def draw(quick, seed, data_home):
        return demos_module.DemoResult(plt.figure(), f"report {quick} {seed} {data_home}")

    monkeypatch.setitem(demos_module.DEMOS, "co2", draw)
    result = run("demo", "--data", "co2", "--seed", "5")
    assert result.stdout.splitlines()[0] == "report False 5 None"
    assert (tmp_path / "forecast_co2.png").is_file()
    run("demo", "--data", "co2", "--out", "other.pdf")
    assert (tmp_path / "other.pdf").read_bytes().startswith(b"%PDF")


def test_a_folder_that_is_not_there_is_refused_before_training(tmp_path):
    result = run("demo", "--quick", "--out", str(tmp_path / "nowhere" / "p.png"))
    assert result.exit_code == 2
    assert "does not exist" in " ".join(result.stderr.replace("│", " ").split())
    assert "epoch" not in result.stderr


@pytest.mark.parametrize("arguments", [("--data", "spiral"), ("--seed", "-1"), ("--seed", "x"), ("--fast",)])
def test_wrong_options_are_refused(arguments):
    result = run("demo", *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""


def test_help_says_what_there_is():
    assert "demo" in run("--help").stdout
    assert "--version" in run("--help").stdout
    options = run("demo", "--help").stdout
    for name in ("--data", "--out", "--quick", "--seed", "--data-home", "spirals", "co2", "physionet2012"):
        assert name in options
    assert "demo" in run().output  # no command: the help


def test_version_and_engine(monkeypatch):
    first, second = run("--version").stdout.splitlines()
    assert first == f"latentode {__version__}"
    assert second == engine_line()
    monkeypatch.setenv("LATENTODE_ENGINE", "torch")
    result = run("--version", "demo")  # nothing else is done
    assert result.exit_code == 0
    assert "engine: torch (no native kernels: the environment variable" in result.stdout
    assert len(result.stdout.splitlines()) == 2


def run_as_module(capsys, monkeypatch, *arguments: str) -> tuple[int, str]:
    """Exit code and output of `python -m latentode ...`, in this process."""
    monkeypatch.setattr(sys, "argv", ["__main__.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("latentode", run_name="__main__")
    return ended.value.code or 0, capsys.readouterr().out


def test_the_package_is_the_command(capsys, monkeypatch):
    assert run_as_module(capsys, monkeypatch, "--version") == (0, run("--version").stdout)
    code, text = run_as_module(capsys, monkeypatch, "demo", "--help")
    assert code == 0
    assert "Usage: python -m latentode demo" in text
    assert run_as_module(capsys, monkeypatch, "demo", "--seed", "x")[0] == 2


def test_the_package_runs_nothing_when_it_is_only_imported(capsys):
    runpy.run_module("latentode.__main__", run_name="latentode.__main__")
    assert capsys.readouterr().out == ""


def test_every_data_set_has_a_demo():
    from latentode.cli.app import DemoData

    assert [data.value for data in DemoData] == list(demos_module.DEMOS)


@pytest.mark.parametrize(
    ("out", "text"),
    [(".", "is a folder"), ("forecast.xyz", "must end in one of"), ("forecast", "must end in one of")],
)
def test_a_picture_that_cannot_be_written_is_refused_before_training(out, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["demo", "--quick", "--out", out])
    assert result.exit_code == 2
    assert text in " ".join(result.output.replace("│", " ").split())
    assert list(tmp_path.iterdir()) == []


def test_a_picture_without_permission_is_refused_before_training(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    result = run("demo", "--quick", "--out", str(tmp_path / "p.png"))
    assert result.exit_code == 2
    assert "cannot be written: choose another place" in " ".join(result.output.replace("│", " ").split())


def test_an_engine_that_nobody_knows_is_refused_before_training(tmp_path, monkeypatch):
    monkeypatch.setenv("LATENTODE_ENGINE", "foo")
    result = run("demo", "--quick", "--out", str(tmp_path / "p.png"))
    assert result.exit_code == 1
    assert "error: the environment variable LATENTODE_ENGINE must be 'torch'" in result.stderr
    assert "epoch" not in result.stderr
