"""Tables and the plot, from made-up times."""

import json

import pytest


def made_up():
    import targets
    from harness import Row, Timing

    def row(group, name, shape, threads, ours, **peers):
        timings = {f"torch {layout}": Timing(t, t, t, 3) for layout, t in peers.items()}
        return Row(group, name, shape, threads, 8, 2, Timing(ours, ours, ours, 3), timings)

    return [
        row(targets.CONV_3X3, "forward", "a", 1, 1.0, contiguous=8.0, channels_last=4.0),
        row(targets.CONV_3X3, "forward", "b", 1, 1.0, contiguous=1.0, channels_last=2.0),
        row(targets.CONV_3X3, "forward", "a", 2, 1.0, contiguous=8.0, channels_last=4.0),
        row(targets.MAX_POOL, "max_pool2d", "a", 1, 1.0, contiguous=10.0),
        row(targets.OTHER, "add", "a", 1, 1.0, contiguous=10.0),
        row(targets.OTHER, "alone", "a", 1, 1.0),
    ]


def test_verdicts():
    import targets

    verdicts = {(v.group, v.name, v.threads): v for v in targets.judge(made_up())}
    conv = verdicts[targets.CONV_3X3, "forward", 1]
    assert (conv.count, conv.mean, conv.worst, conv.worst_shape) == (2, 0.5, 1.0, "b")
    assert conv.passed is False  # the mean is reached, the worst is not
    assert verdicts[targets.CONV_3X3, "forward", 2].passed is True
    assert verdicts[targets.OTHER, "add", 1].passed is None
    assert (targets.OTHER, "alone", 1) not in verdicts


def test_overview_has_a_line_per_class_with_a_target():
    import report
    import targets

    table = report.overview(made_up())
    assert table == [
        ["", "target (worst)", "1 thread", "2 threads", ""],
        [targets.CONV_3X3, "0.55 (0.80)", "0.50 (1.00)", "0.25 (0.25)", ""],
        [targets.MAX_POOL, "0.20 (1.00)", "0.10 (0.10)", "", "✓"],
    ]


def test_tables_as_text_and_markdown():
    import report

    table = [["name", "x"], ["a", "10"]]
    assert report.text(table) == "name  x\na     10"
    assert report.markdown(table) == "| name | x |\n|---|---|\n| a | 10 |"


def test_a_record_gives_its_rows_back():
    import record
    from roofline import Roofline

    rows = made_up()
    content = json.loads(json.dumps(record.record("command", rows, {1: Roofline(1e9, 1e9), 2: Roofline(1e9, 1e9)})))
    assert {"command", "date", "machine", "versions", "roofline"} <= content.keys()
    assert record.rows_of(content) == rows
    assert content["rows"][0]["ratio"] == 0.25


def test_write_puts_tables_and_plot_where_readers_look(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    import record
    import report
    from roofline import Roofline

    limits = {1: Roofline(1e9, 1e9), 2: Roofline(1e9, 1e9)}
    memory = [{"shape": "net", "threads": 2, "bytes": {"nnk": 2e6, "torch": 3e6}}]
    results = tmp_path / "results"
    record.write(results / "cpu_step.json", record.record("command", made_up(), limits, peak_memory=memory))
    (results / "cpu_other.json").write_text("{}")
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{report.BEGIN}old\n{report.END}after\n", encoding="utf-8")
    monkeypatch.setattr(report, "ROOT", tmp_path)
    for _ in range(2):  # the second time replaces the first
        report.main(["--results", str(results), "--write"])
    page = readme.read_text(encoding="utf-8")
    assert page.startswith(f"before\n{report.BEGIN}Our time")
    assert page.endswith(f"{report.END}after\n")
    assert page.count("| max pool | 0.20 (1.00) | 0.10 (0.10) |  | ✓ |") == 1
    assert "old" not in page
    tables = (results / "tables.md").read_text(encoding="utf-8")
    assert "| net | 2 | 3 |" in tables
    assert "| other operation | add | a | 0.10 |  |" in tables
    assert (results / "ratios.png").read_bytes().startswith(b"\x89PNG")
    assert "max pool" in capsys.readouterr().out


def test_a_page_without_marks_is_an_error():
    import report

    with pytest.raises(ValueError, match="lacks <!-- bench -->"):
        report.between_marks("nothing", "table")


def test_no_results_is_an_error(tmp_path, capsys):
    import report

    with pytest.raises(SystemExit):
        report.main(["--results", str(tmp_path)])
    assert "holds no run" in capsys.readouterr().err
