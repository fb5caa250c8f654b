"""The summary numbers against the rows that the paper prints.

The table is a copy of what version 1 (Tables 1, 2, 4, 5) and version 2 (Tables 1, 9, 15, 18, 21) print. Some printed
numbers do not follow from the printed benchmark scores; each is named below with the value that does.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.aggregate import DIMENSIONS, TWELVE, adaptation, dimension_means, hars, summarize

# MME, MMBench, SEEDBench2_Plus, OCRVQA, ScienceQA, MMMU, MIA-Bench, MMDU, MathVista, MathVision, POPE, HallusionBench
BENCHMARKS = {
    "vanilla": "66.63 64.60 38.78 52.41 69.83 28.60 66.33 26.37 25.50 13.16 86.87 21.76",
    "full-ft": "34.17 52.92 31.44 11.65 67.13 24.20 25.25 13.03 24.70 11.94 74.22 9.27",
    "lora": "44.06 53.87 30.22 23.80 66.18 21.40 29.66 13.70 23.20 12.83 73.97 8.78",
    "replay": "58.96 60.48 38.34 37.73 68.77 28.50 62.33 19.31 25.20 13.13 85.44 17.90",
    "ewc": "48.57 50.26 33.60 32.16 65.71 25.20 29.79 13.36 23.30 12.76 76.22 10.77",
    "lwf": "50.87 55.41 32.02 25.52 66.21 20.60 36.19 13.68 24.40 12.04 79.23 9.13",
    "moelora": "58.26 63.32 37.42 40.17 69.04 27.50 35.03 17.85 27.80 11.78 80.70 19.29",
    "o-lora": "60.30 62.63 37.90 43.91 68.84 27.30 34.85 17.28 28.20 11.55 81.46 20.78",
    "sefe (v1)": "36.10 48.02 22.79 18.07 65.03 15.30 17.73 13.25 26.00 10.39 72.81 5.79",
    "sefe (v2)": "17.27 56.27 39.00 32.88 66.10 31.00 42.90 10.55 23.90 13.29 50.61 12.48",
    "cia": "50.65 54.30 33.29 34.31 67.28 22.90 34.07 10.40 24.00 11.60 79.29 9.75",
    "kore r=235": "49.84 54.98 37.73 44.24 68.06 29.30 38.54 16.58 25.10 12.09 80.99 22.51",
    "kore r=256": "50.06 54.90 36.89 43.03 68.51 29.40 60.02 23.18 24.70 11.48 80.77 22.23",
    "13b vanilla": "65.33 68.38 42.25 59.99 73.90 31.50 66.04 33.93 27.40 11.88 87.07 26.46",
    "13b lora": "30.00 60.57 36.93 28.22 69.13 18.30 23.26 17.43 23.90 7.73 71.64 4.52",
    "13b replay": "57.49 65.81 40.27 54.75 70.94 25.90 61.04 24.62 27.00 12.11 87.09 21.23",
    "13b kore": "55.99 62.71 40.32 51.60 71.97 30.80 65.10 26.84 27.30 13.32 79.29 18.91",
    "qwen vanilla": "82.54 79.81 69.61 71.03 72.10 58.60 78.46 61.25 69.70 25.69 86.51 47.42",
    "qwen lora": "67.88 37.20 59.29 69.79 42.30 2.40 21.39 23.25 39.40 13.52 73.73 9.02",
    "qwen replay": "75.38 81.70 69.16 69.17 85.12 45.40 70.20 50.72 63.90 21.58 87.49 47.48",
    "qwen kore": "36.23 76.98 66.80 68.69 85.55 45.40 70.51 45.02 63.10 24.34 75.24 41.89",
    "w/o augmentation": "58.75 61.17 36.80 44.04 68.15 26.10 32.53 16.00 28.00 11.41 81.29 17.71",
    "w/o constraint": "40.55 52.23 31.75 33.01 65.81 26.80 32.70 15.38 26.50 11.74 79.16 13.77",
    "w/o frozen a": "47.24 54.21 36.01 43.10 67.63 29.10 35.30 16.44 26.70 11.45 80.84 18.98",
}
# CEM, F1, the seven dimensions, K.A, K.R of version 2, Avg of version 2, HARS
PRINTED_V2 = {
    "vanilla": "4.89 9.34 65.61 45.59 49.22 66.33 26.37 19.33 54.32 7.12 46.74 26.93 -",
    "full-ft": "18.02 15.17 43.55 21.55 45.67 25.25 13.03 18.32 16.09 16.60 31.66 24.13 61.98",
    "lora": "15.23 18.31 48.96 27.01 43.79 29.66 13.70 18.02 41.38 16.77 33.47 25.12 63.83",
    "replay": "11.36 17.98 59.72 37.98 48.64 62.33 19.31 19.17 51.67 14.67 43.00 28.83 66.04",
    "ewc": "15.49 19.42 49.42 32.88 45.46 29.79 13.36 18.00 43.50 17.46 35.14 26.30 66.26",
    "lwf": "14.58 19.99 53.14 28.77 43.41 36.19 13.68 18.22 44.18 17.29 35.44 26.36 66.26",
    "moelora": "6.45 12.20 60.79 38.79 48.27 35.03 17.85 19.79 49.99 9.33 40.51 24.92 37.22",
    "o-lora": "6.44 12.08 61.47 40.91 48.07 34.85 17.28 19.87 51.12 9.26 41.25 25.26 36.70",
    "sefe (v2)": "16.22 24.12 36.77 35.94 48.55 42.90 10.55 18.59 31.55 20.17 33.02 26.60 67.56",
    "cia": "14.50 20.27 52.47 33.80 45.09 34.07 10.40 12.50 44.52 17.39 35.99 26.69 66.86",
    "kore r=235": "30.65 41.26 52.41 40.98 48.68 38.54 16.58 18.59 51.75 35.96 40.00 37.98 82.81",
    "kore r=256": "31.05 41.32 52.48 39.96 48.96 60.02 23.18 18.09 51.50 36.19 42.10 39.14 84.93",
    "13b vanilla": "5.33 10.07 66.86 51.12 52.70 66.04 33.93 19.64 56.77 7.70 49.51 28.60 -",
    "13b lora": "16.26 22.83 45.28 32.58 43.72 23.26 17.43 15.82 38.08 19.55 32.64 26.09 63.15",
    "13b replay": "12.05 20.21 61.65 47.51 48.42 61.04 24.62 19.55 54.16 16.13 45.69 30.91 66.73",
    "13b kore": "32.89 44.47 59.35 45.96 51.39 65.10 26.84 20.31 40.52 38.68 45.35 42.01 85.46",
    "qwen vanilla": "9.34 15.33 81.18 70.32 65.35 78.46 61.25 47.69 66.96 12.34 66.89 39.61 -",
    "qwen lora": "14.56 14.01 52.54 64.54 22.35 21.39 23.25 13.52 41.38 14.29 38.16 26.22 22.03",
    "qwen replay": "11.73 18.51 78.54 69.17 65.26 70.20 50.72 42.74 67.48 15.12 63.94 39.53 30.89",
    "qwen kore": "22.91 31.36 56.60 67.74 65.48 70.51 45.02 43.72 58.57 27.14 58.31 42.72 67.10",
    "w/o augmentation": "10.83 18.31 59.96 40.42 47.13 32.53 16.00 19.71 49.50 14.57 40.16 27.37 64.14",
    "w/o constraint": "33.93 43.71 46.39 32.38 46.31 32.70 15.38 19.12 46.47 38.82 35.78 37.30 79.04",
    "w/o frozen a": "31.97 41.72 50.73 39.56 48.37 35.30 16.44 19.07 49.91 36.85 38.92 37.88 81.96",
}
# Avg of version 1
PRINTED_V1 = {
    "full-ft": (18.02, 15.17, 23.23),
    "lora": (15.23, 18.31, 24.28),
    "replay": (11.36, 17.98, 28.68),
    "ewc": (15.49, 19.42, 25.33),
    "lwf": (14.58, 19.99, 25.61),
    "moelora": (6.45, 12.20, 23.98),
    "o-lora": (6.44, 12.08, 24.17),
    "sefe (v1)": (13.38, 16.88, 22.54),
    "kore r=235": (30.65, 41.26, 37.09),
    "kore r=256": (31.05, 41.32, 39.11),
    "13b replay": (12.05, 20.21, 30.70),
    "qwen replay": (11.73, 18.51, 39.28),
    "qwen kore": (22.91, 31.36, 42.68),
    "w/o augmentation": (10.83, 18.31, 26.23),
    "w/o frozen a": (31.97, 41.72, 36.95),
    "13b lora": (16.26, 22.83, 25.21),
    "13b kore": (32.89, 44.47, 41.44),
    "qwen lora": (14.56, 14.01, 24.21),
    "w/o constraint": (33.93, 43.71, 36.46),
}
COLUMNS = (*DIMENSIONS, "K.A", "K.R", "Avg", "HARS")
# What is printed differently from what the printed benchmarks give, with the value that they give. The first five are
# slips in one cell (OCR and EWC's MAT by 0.05 and 0.03: rounding twice); MoELoRA's K.R runs on into its Avg and HARS;
# CIA's MAT is 12.50 in print; Qwen LoRA's MAT is its MathVision score alone, and its K.R is 0.10 low.
MISPRINTED_V2 = {
    ("full-ft", "HAL"): 41.74,
    ("replay", "OCR"): 38.03,
    ("ewc", "MAT"): 18.03,
    ("cia", "MAT"): 17.80,
    ("13b kore", "HAL"): 49.10,
    ("moelora", "K.R"): 40.68,
    ("moelora", "Avg"): 25.00,
    ("moelora", "HARS"): 37.26,
    ("qwen lora", "MAT"): 26.46,
    ("qwen lora", "K.R"): 38.26,
    ("qwen lora", "Avg"): 26.27,
}
# 13B KORE and Qwen LoRA follow from their misprinted HAL and MAT; SEFE's 22.54 follows from nothing that is printed.
MISPRINTED_V1 = {"sefe (v1)": 21.22, "13b kore": 42.06, "qwen lora": 25.14}
TOLERANCE = 0.0151  # sums of numbers that were rounded to two decimals


def scores_of(row: str) -> dict[str, float | None]:
    return dict(zip(TWELVE, map(float, BENCHMARKS[row].split()), strict=True))


def computed(row: str) -> dict[str, float | None]:
    cem, f1, *_ = map(float, PRINTED_V2[row].split()[:2])
    base = next((name for name in ("13b", "qwen") if row.startswith(name)), "")
    base = f"{base} vanilla".strip()
    base_cem, base_f1, *_ = map(float, PRINTED_V2[base].split()[:2])
    adapted = adaptation(cem, f1)
    whole = summarize(adapted, scores_of(row))
    untouched = summarize(adaptation(base_cem, base_f1), scores_of(base))
    score = hars(adapted, whole.retention_v2, untouched.adaptation, untouched.retention_v2)
    return {**whole.dimensions, "K.A": adapted, "K.R": whole.retention_v2, "Avg": whole.average_v2, "HARS": score}


def test_every_printed_number_of_version_2_follows_but_those_named():
    misfits = {}
    for row, printed in PRINTED_V2.items():
        values = computed(row)
        for column, text in zip(COLUMNS, printed.split()[2:], strict=True):
            value = values[column]
            if text == "-":
                assert value is None
            elif value is None or abs(value - float(text)) > TOLERANCE:
                misfits[row, column] = pytest.approx(value, abs=0.006)
    assert misfits == MISPRINTED_V2


def test_every_printed_average_of_version_1_follows_but_those_named():
    misfits = {}
    for row, (cem, f1, printed) in PRINTED_V1.items():
        value = summarize(adaptation(cem, f1), scores_of(row)).average_v1
        if value is None or abs(value - printed) > TOLERANCE:
            misfits[row] = pytest.approx(value, abs=0.006)
    assert misfits == MISPRINTED_V1


def test_the_misprinted_cells_lead_to_the_averages_printed_from_them():
    for row, dimension, cell, printed in (("13b kore", "HAL", 40.52, 41.44), ("qwen lora", "MAT", 13.52, 24.21)):
        seven = {**dimension_means(scores_of(row)), dimension: cell}
        cem, f1, _ = PRINTED_V1[row]
        assert (adaptation(cem, f1) + sum(seven.values()) / 7) / 2 == pytest.approx(printed, abs=TOLERANCE)


def test_a_missing_benchmark_leaves_no_mean_behind():
    scores = scores_of("lora") | {"MMDU": None}
    whole = summarize(16.77, scores)
    assert whole.dimensions["M-IDU"] is None
    assert whole.dimensions["COM"] == pytest.approx(48.965)
    assert whole.retention_v1 is whole.average_v1 is whole.retention_v2 is whole.average_v2 is None
    del scores["MMDU"]
    assert summarize(16.77, scores) == whole
    assert summarize(None, scores_of("lora")).average_v1 is None
    assert summarize(None, scores_of("lora")).retention_v1 is not None


def test_hars_means_nothing_without_a_gain():
    assert hars(7.0, 46.0, 7.1, 46.7) is None
    assert hars(7.1, 46.0, 7.1, 46.7) is None
    assert hars(9.0, 46.0, 0.0, 46.7) is None
    assert hars(9.0, 0.0, 7.1, 46.7) is None
    assert hars(14.2, 46.7, 7.1, 46.7) == pytest.approx(2 * 50 * 100 / 150)


@given(st.floats(8, 100), st.floats(1, 100), st.floats(1, 7.5), st.floats(1, 100))
def test_hars_lies_between_its_two_parts(adapted, retained, base_adapted, base_retained):
    value = hars(adapted, retained, base_adapted, base_retained)
    gain, retained_share = 100 * (adapted / base_adapted - 1), 100 * retained / base_retained
    parts = (100 * gain / (gain + 100), retained_share)
    assert min(parts) - 1e-9 <= value <= max(parts) + 1e-9


def test_dimensions_cover_the_twelve_once():
    assert len(TWELVE) == len(set(TWELVE)) == 12
    assert len(DIMENSIONS) == 7
