"""Commands and their options."""

from __future__ import annotations

import os
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from latentode.exceptions import DataError
from latentode.version import __version__

app = typer.Typer(
    help="Forecasts, with honest uncertainty, for irregular time series.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)


class DemoData(StrEnum):
    """Data sets of the demo."""

    spirals = "spirals"
    co2 = "co2"
    physionet2012 = "physionet2012"


def _print_version(wanted: bool) -> None:
    if not wanted:
        return
    typer.echo(f"latentode {__version__}")
    from latentode.versions import engine_line

    typer.echo(engine_line())
    raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Print the version and the engine that runs.",
            callback=_print_version,
            is_eager=True,
        ),
    ] = False,
) -> None:
    """Forecasts, with honest uncertainty, for irregular time series."""


@app.command()
def demo(
    data: Annotated[DemoData, typer.Option(help="What to learn and to forecast.")] = DemoData.spirals,
    out: Annotated[
        Path | None, typer.Option(help="Where to write the picture; default: forecast_<data>.png here.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Few series and epochs: shows that all works, not how well.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Random state of data, weights and batches.")] = 0,
    data_home: Annotated[
        Path | None, typer.Option(help="Folder of downloaded data; default: LATENTODE_DATA_HOME or a cache.")
    ] = None,
) -> None:
    """Train a latent ODE, forecast held-out data, and write one picture and a table of errors."""
    picture = out or Path(f"forecast_{data.value}.png")
    _check_picture(picture)
    began = time.perf_counter()
    typer.echo(
        f"latentode demo: {data.value}{' (quick)' if quick else ''}; loading torch, then training", err=True
    )
    from latentode.cli.demos import DEMOS  # torch takes seconds to import: say something first
    from latentode.native.library import library

    try:
        library()
    except ValueError as error:  # of its variable, before anything is trained
        raise _failure(error) from error
    try:
        result = DEMOS[data.value](quick, seed, data_home)
    except (DataError, OSError) as error:
        raise _failure(error) from error
    result.figure.savefig(picture)
    typer.echo(result.report)
    if quick:
        typer.echo("quick: so few series and epochs show that all works, not how well")
    typer.echo(f"picture: {picture} ({time.perf_counter() - began:.0f} s)")


def _failure(error: Exception) -> typer.Exit:
    typer.echo(f"error: {error}", err=True)
    return typer.Exit(1)


PICTURE_FORMATS = (".png", ".pdf", ".svg", ".jpg")


def _check_picture(picture: Path) -> None:
    """Refuse a place where no picture can be written, before minutes of training."""
    if picture.is_dir():
        problem = f"{picture} is a folder: name a file in it, such as {picture / 'forecast.png'}"
    elif picture.suffix.lower() not in PICTURE_FORMATS:
        problem = f"the name must end in one of {', '.join(PICTURE_FORMATS)}; got {picture.name!r}"
    elif not picture.parent.is_dir():
        problem = f"the folder {picture.parent} does not exist"
    elif not os.access(picture if picture.exists() else picture.parent, os.W_OK):
        problem = f"{picture} cannot be written: choose another place"
    else:
        return
    raise typer.BadParameter(problem, param_hint="--out")
