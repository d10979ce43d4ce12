"""Makes co2.csv from the copy in the statsmodels package (statsmodels 0.15): python datasets/co2/make.py"""

from __future__ import annotations

from pathlib import Path

from statsmodels.datasets import co2


def main() -> None:
    weekly = co2.load_pandas().data.rename_axis("time")
    text = weekly.to_csv(date_format="%Y-%m-%d", lineterminator="\n")
    Path(__file__).with_name("co2.csv").write_bytes(text.encode())


if __name__ == "__main__":
    main()
