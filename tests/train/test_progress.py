import io
import re
import sys

import pytest

from nnk import backend
from nnk.train import Callback, Progress
from nnk.train import progress as progress_module


class Terminal(io.StringIO):
    def isatty(self):
        return True


def shown(terminal):
    """Everything the bar ever showed, one entry per redraw."""
    return [part for part in re.split(r"[\r\n]", terminal.getvalue()) if part.strip()]


def test_a_file_gets_one_plain_line_per_epoch(make_trainer, images, val_images):
    stream = io.StringIO()
    make_trainer(callbacks=[Progress(stream)]).fit(images, val_images, epochs=10)
    lines = [line for line in stream.getvalue().splitlines() if not line.startswith("compiling")]
    assert len(lines) == 10
    assert "\r" not in stream.getvalue()
    number = r"\d+\.\d{4}"
    pattern = (
        rf"epoch  1/10   loss {number}   accuracy {number}   val loss {number}   val accuracy {number}   "
        r"[\d,]+ images/s   \d\d:\d\d left"
    )
    assert re.fullmatch(pattern, lines[0])
    assert lines[-1].startswith("epoch 10/10   loss")
    assert "left" not in lines[-1]


def test_standard_output_is_the_default(make_trainer, images, capsys):
    make_trainer(callbacks=[Progress()]).fit(images)
    assert "epoch 1/1   loss" in capsys.readouterr().out


def test_a_terminal_gets_a_bar_with_all_that_one_wants_to_know(make_trainer, images, monkeypatch):
    pytest.importorskip("tqdm")
    monkeypatch.setattr(progress_module, "INTERVAL", 0)
    terminal = Terminal()
    make_trainer(callbacks=[Progress(terminal)]).fit(images, epochs=3)
    pattern = r"epoch 2/3  loss \d\.\d{4}  accuracy \d\.\d{4} +\d+% \|.*\| [\d,]+ images/s  \d\d:\d\d left"
    assert any(re.fullmatch(pattern, part.strip()) for part in shown(terminal)), shown(terminal)
    assert sum(part.startswith("epoch 3/3   loss") for part in shown(terminal)) == 1


def test_the_bar_is_drawn_at_most_ten_times_a_second(make_trainer, images, monkeypatch):
    pytest.importorskip("tqdm")
    clock = [0.0]

    class Tick(Callback):
        def batch_end(self, trainer, samples):
            clock[0] += 0.001

    monkeypatch.setattr(progress_module.time, "perf_counter", lambda: clock[0])
    terminal = Terminal()
    make_trainer(callbacks=[Tick(), Progress(terminal)]).fit(images, epochs=40)  # 200 batches in 0.2 s
    redraws = [part for part in shown(terminal) if "|" in part]
    # Each epoch's line has the bar drawn again below it, and the epoch's end brings it up to date.
    assert len(redraws) <= 2 * 40 + 4


def test_resuming_starts_the_bar_where_the_run_is(make_trainer, images, tmp_path, monkeypatch):
    pytest.importorskip("tqdm")
    make_trainer(tmp_path / "run").fit(images, epochs=2)
    terminal = Terminal()
    make_trainer(tmp_path / "run", callbacks=[Progress(terminal)]).fit(images, epochs=4, resume=True)
    assert re.match(r"epoch 3/4 +50%", shown(terminal)[0])


def test_batches_of_unknown_number(make_trainer, images):
    pytest.importorskip("tqdm")

    class Stream:
        def __iter__(self):
            return iter([images])

    terminal = Terminal()
    make_trainer(callbacks=[Progress(terminal)]).fit(Stream(), epochs=2)
    assert "epoch 2/2" in terminal.getvalue()


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_compilation_is_announced_once(make_trainer, images, stream):
    class Compile(Callback):
        def fit_start(self, trainer):
            for listener in backend.kernels("cpu._driver").listeners:
                listener("some_kernel")
                listener("another_kernel")

    stream = stream()
    if stream.isatty():
        pytest.importorskip("tqdm")
    make_trainer(callbacks=[Progress(stream), Compile()]).fit(images)
    assert stream.getvalue().count("compiling kernels for this machine") == 1
    assert ("compiling another_kernel" in stream.getvalue()) == stream.isatty()


def test_time_spent_compiling_is_left_out_of_the_estimates(make_trainer, images, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(progress_module.time, "perf_counter", lambda: clock[0])

    class Compile(Callback):
        def batch_end(self, trainer, samples):
            clock[0] += 1
            if trainer.epoch == 0 and trainer.batch in (1, 3):
                clock[0] += 1000
                backend.kernels("cpu._driver").listeners[-1]("some_kernel")

    stream = io.StringIO()
    make_trainer(callbacks=[Compile(), Progress(stream)]).fit(images, epochs=3)
    lines = [line for line in stream.getvalue().splitlines() if line.startswith("epoch")]
    assert "10 images/s   00:06 left" in lines[0]  # three batches of five seconds, and ten to come
    assert "10 images/s   00:04 left" in lines[1]


def test_nothing_is_left_behind(make_trainer, images):
    class Break(Callback):
        def batch_end(self, trainer, samples):
            raise ZeroDivisionError

    listeners = list(backend.kernels("cpu._driver").listeners)
    with pytest.raises(ZeroDivisionError):
        make_trainer(callbacks=[Progress(Terminal()), Break()]).fit(images)
    assert backend.kernels("cpu._driver").listeners == listeners


def test_curves_are_drawn_where_matplotlib_is(make_trainer, images, val_images, tmp_path):
    pytest.importorskip("matplotlib")
    loaded = set(sys.modules)
    make_trainer(tmp_path / "run").fit(images, val_images, epochs=2)
    assert (tmp_path / "run" / "curves.png").read_bytes().startswith(b"\x89PNG\r\n")
    assert "matplotlib.pyplot" not in set(sys.modules) - loaded  # the user's figures and backend are not ours to touch


def test_curves_are_left_out_where_it_is_not(make_trainer, images, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    make_trainer(tmp_path / "run").fit(images)
    assert not (tmp_path / "run" / "curves.png").exists()
