"""Group comparison, agreement and consistency against scipy, brute force and hand."""

import numpy as np
import pytest
from scipy import stats
from xaiengine.cohorts.statistics import agreement_with, cliffs_delta, compare_groups, consistency, holm
from xaiengine.cohorts.table import PART, cohort_rows, columns_of
from xaiengine.core.errors import OptionError


def rows_of(values, groups):
    return [
        {"case": f"c{number}", "status": "finished", "burden": value, "group": group, "seconds": number}
        for number, (value, group) in enumerate(zip(values, groups))
    ]


def test_cliffs_delta_counts_pairs():
    generator = np.random.default_rng(1)
    a, b = generator.integers(0, 9, 13).astype(float), generator.integers(2, 11, 17).astype(float)
    pairs = np.sign(a[:, None] - b[None, :])
    assert cliffs_delta(a, b) == pytest.approx(pairs.mean())


def test_groups_differ_where_they_do_and_holm_equals_the_plain_definition():
    generator = np.random.default_rng(0)
    values = np.concatenate([generator.normal(0, 1, 30), generator.normal(1.5, 1, 30)])
    (found,) = compare_groups(rows_of(values, ["a"] * 30 + ["b"] * 30), "group")
    assert found.p == pytest.approx(stats.mannwhitneyu(values[:30], values[30:]).pvalue) and found.p_holm == found.p
    assert found.low < found.effect < found.high < 0
    p = [0.01, 0.04, 0.03, 0.005]
    assert holm(p) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_an_interval_of_equal_groups_holds_zero():
    values = np.random.default_rng(5).normal(size=80)
    (found,) = compare_groups(rows_of(values, ["a", "b"] * 40), "group")
    assert found.low < 0 < found.high


def test_agreement_equals_scipy_and_bland_and_altman_by_hand():
    a = np.array([1.0, 2.0, 4.0, 8.0, 9.0])
    b = np.array([1.5, 1.0, 5.0, 7.0, 10.0])
    rows = [{"status": "finished", "x": x, "y": str(y)} for x, y in zip(a, b)]
    found = agreement_with(rows, "x", "y")
    assert found.pearson == pytest.approx(stats.pearsonr(a, b).statistic) and found.count == 5
    assert found.spearman == pytest.approx(stats.spearmanr(a, b).statistic)
    assert found.bias == pytest.approx(-0.1)
    assert found.upper_limit - found.bias == pytest.approx(1.96 * np.std(a - b, ddof=1))


def test_what_cannot_be_compared_is_named():
    rows = rows_of([1.0, 2.0, 3.0, 4.0], ["a", "a", "a", "b"])
    with pytest.raises(OptionError, match="a: 3, b: 1"):
        compare_groups(rows, "group")
    with pytest.raises(OptionError, match="no column 'sex'"):
        compare_groups(rows, "sex")
    with pytest.raises(OptionError, match="no column 'age'"):
        agreement_with(rows, "burden", "age")
    with pytest.raises(OptionError, match="0 finished cases have numbers"):
        agreement_with(rows, "burden", "group")


def test_a_case_that_looks_elsewhere_is_found():
    generator = np.random.default_rng(2)
    rows = []
    for number in range(20):
        lung = 80.0 + generator.normal(0, 2) if number != 7 else 5.0
        rows.append(
            {"case": f"c{number}", "status": "finished", f"lung ({PART})": lung, f"heart ({PART})": 100.0 - lung}
        )
    found = consistency(rows)
    assert list(found.outliers) == ["c7"] and found.mean[f"lung ({PART})"] == pytest.approx(76, abs=2)
    share = np.array([*found.mean.values()]) / 100
    assert found.entropy == pytest.approx(-(share * np.log2(share)).sum())
    assert consistency(rows[:2]) is None


def test_covariates_never_hide_the_cohort_s_own_columns(tmp_path):
    from xaiengine.cohorts.case import Case
    from xaiengine.cohorts.plan import CohortSettings, Work
    from xaiengine.cohorts.record import CaseRecord

    case = Case("a", {}, {}, {"seconds": "covariate", "burden": "given", "age": 4})
    job = CohortSettings("explain-prediction", tmp_path).job(case)
    record = CaseRecord(case="a", status="finished", digest="d", seconds=2.5, values={"burden": 7.0})
    (row,) = cohort_rows([Work(case, job, "d", "new", record, {})], {"a": record})
    assert row["seconds"] == 2.5 and row["seconds (given)"] == "covariate"
    assert row["burden"] == "given" and row["burden (result)"] == 7.0
    assert columns_of([row])[:4] == ["case", "status", "seconds (given)", "burden"]
