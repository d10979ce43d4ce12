"""When something is observed can tell as much as what: a rate of events is learned together with their values.

Events come in waves, and a value is measured at each; the model sees events only, never the rate that made them. Prints
how far the rate that it finds is from the true one, at times up to the last event (known) and beyond (forecast), and
draws both for three held-out series.

    python examples/event_times.py
"""

from __future__ import annotations

import argparse

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from latentode import LatentODERegressor
from latentode.datasets import make_event_times

SPAN, SEEN = 10.0, 7.0
BLUE, INK, PALE = "#3465a4", "#2e3436", "#888a85"


def main(quick: bool = False) -> dict[str, float]:
    """Relative error of the rate where events were seen, and beyond."""
    n_train, n_test = (10, 3) if quick else (300, 100)
    train = make_event_times(n_train, span=SPAN, random_state=0)
    test = make_event_times(n_test, span=SPAN, random_state=1, return_truth=True)
    known = test.data[test.data["time"] <= SEEN]
    model = LatentODERegressor(
        event_times="poisson", random_state=0, verbose=0, **({"max_epochs": 1} if quick else {})
    ).fit(train)

    times = np.linspace(0, SPAN, 201)
    asked = pd.DataFrame([(name, t) for name in known["id"].unique() for t in times], columns=["id", "time"])
    found = model.predict_intensity(known, asked)
    truth = test.truth_at(asked)
    error = found["intensity"] - truth["intensity"]
    spread = truth["intensity"].std()
    seen = asked["time"] <= SEEN
    errors = {
        "known": float(np.sqrt((error[seen] ** 2).mean()) / spread),
        "forecast": float(np.sqrt((error[~seen] ** 2).mean()) / spread),
    }
    print("error of the rate in its standard deviations:", {k: round(v, 3) for k, v in errors.items()})
    draw(known, found, truth)
    print("    event_times.png")
    return errors


def draw(known: pd.DataFrame, found: pd.DataFrame, truth: pd.DataFrame) -> None:
    """Rates of three series, with their events as ticks."""
    names = list(known["id"].unique()[:3])
    figure, axes = plt.subplots(1, len(names), figsize=(11, 3.2), sharey=True, layout="constrained")
    for ax, name in zip(axes, names):
        for table, style in (
            (truth, {"color": INK, "linestyle": (0, (4, 2))}),
            (found, {"color": BLUE, "lw": 2}),
        ):
            own = table[table["id"] == name]
            ax.plot(own["time"], own["intensity"], label="truth" if table is truth else "learned", **style)
        events = known.loc[known["id"] == name, "time"]
        ax.plot(events, np.full(len(events), -0.35), "|", color=INK, markersize=9, label="events seen")
        ax.axvspan(SEEN, SPAN, color=PALE, alpha=0.15, lw=0, label="forecast")
        ax.set(title=f"series {name}", xlabel="time", ylim=(-0.8, None))
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("events per unit of time")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False)
    figure.savefig("event_times.png", dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="ten series, one epoch")
    main(parser.parse_args().quick)
