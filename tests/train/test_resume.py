"""A run that was cut off anywhere goes on as if it had not been."""

import errno
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("safetensors")

from safetensors.numpy import load_file

import nnk
from nnk import nn
from nnk.data import DataLoader, GaussianNoise, RandomAffine, RandomCrop
from nnk.train import Callback, Checkpoint, CheckpointError, Curves, Interrupted, Trainer, files
from nnk.train import checkpoint as checkpoint_module

EPOCHS, BATCHES = 3, 5  # of the toy run: 50 images in batches of 10


class Cut(Exception):
    """Stands for whatever ends a program."""


class At(Callback):
    """Does something once, after so many steps."""

    def __init__(self, step, action):
        self.step, self.action = step, action

    def batch_end(self, trainer, samples):
        if trainer.epoch * BATCHES + trainer.batch == self.step:
            self.action()


def cut():
    raise Cut


@pytest.fixture(autouse=True)
def no_curves(monkeypatch):
    """Drawing would take longer than all the training."""
    monkeypatch.setattr(Curves, "fit_end", lambda curves, trainer: None)


def ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)


def results(folder):
    weights = {name: array.tobytes() for name, array in load_file(folder / "model.safetensors").items()}
    return weights, (folder / "history.csv").read_text()


@pytest.fixture
def whole(tmp_path, make_trainer, images, val_images):
    """Results of the run that nothing disturbs."""
    make_trainer(tmp_path / "whole").fit(images, val_images, EPOCHS)
    return results(tmp_path / "whole")


def test_a_run_cut_off_after_any_batch_ends_the_same(tmp_path, make_trainer, images, val_images, whole):
    for step in range(1, EPOCHS * BATCHES + 1):
        out = tmp_path / str(step)
        # Steps between checkpoints are lost and done again.
        trainer = make_trainer(out, callbacks=[Checkpoint(steps=2), At(step, cut)])
        with pytest.raises(Cut):
            trainer.fit(images, val_images, EPOCHS)
        nnk.manual_seed(step)  # a new process would not know where the old one was
        trainer = make_trainer(out, callbacks=[Checkpoint(steps=2)])
        history = trainer.fit(images, val_images, EPOCHS, resume=True)
        assert results(out) == whole, step
        assert len(history) == EPOCHS


def test_a_loader_of_the_users_and_plain_batches_resume_too(tmp_path, make_trainer, make_loader, images):
    for name, data in (("loader", make_loader(images)), ("list", list(make_loader(images)))):
        make_trainer(tmp_path / f"{name}-whole").fit(data, epochs=2)
        trainer = make_trainer(tmp_path / name, callbacks=[Checkpoint(steps=1), At(7, cut)])
        with pytest.raises(Cut):
            trainer.fit(data, epochs=2)
        make_trainer(tmp_path / name).fit(data, epochs=2, resume=True)
        assert results(tmp_path / name) == results(tmp_path / f"{name}-whole")


def test_a_seed_nobody_chose_is_kept(tmp_path, make_trainer, images):
    make_trainer(tmp_path / "whole", seed=None).fit(images, epochs=2)
    trainer = make_trainer(tmp_path / "run", seed=None, callbacks=[At(7, cut)])
    with pytest.raises(Cut):
        trainer.fit(images, epochs=2)
    trainer = make_trainer(tmp_path / "run", seed=None)
    nnk.manual_seed(99)
    trainer.fit(images, epochs=2, resume=True)
    assert results(tmp_path / "run") == results(tmp_path / "whole")


def test_augmented_images_come_again_after_a_cut(tmp_path, make_trainer, make_loader, images):
    steps = [RandomCrop(8, padding=1), RandomAffine(10), GaussianNoise(0.1)]
    make_trainer(tmp_path / "whole").fit(make_loader(images, augment=steps), epochs=2)
    with pytest.raises(Cut):
        make_trainer(tmp_path / "cut", callbacks=[Checkpoint(steps=1), At(7, cut)]).fit(
            make_loader(images, augment=steps), epochs=2
        )
    with pytest.raises(CheckpointError, match=r"augment\.1 is .GaussianNoise.* here and .RandomAffine"):
        make_trainer(tmp_path / "cut").fit(make_loader(images, augment=[steps[0], *steps[2:], steps[1]]), resume=True)
    make_trainer(tmp_path / "cut").fit(make_loader(images, augment=steps), epochs=2, resume=True)
    assert results(tmp_path / "cut") == results(tmp_path / "whole")


def test_a_finished_run_resumes_to_itself(tmp_path, make_trainer, images, val_images, whole, contents):
    (tmp_path / "whole" / "model.safetensors").unlink()  # killed between the last checkpoint and the end
    history = make_trainer(tmp_path / "whole").fit(images, val_images, EPOCHS, resume=True)
    assert results(tmp_path / "whole") == whole
    assert len(history) == EPOCHS


def test_more_epochs_continue_a_finished_run(tmp_path, make_trainer, images, val_images, whole):
    make_trainer(tmp_path / "run").fit(images, val_images, 1)
    make_trainer(tmp_path / "run").fit(images, val_images, EPOCHS, resume=True)
    assert results(tmp_path / "run") == whole


@pytest.mark.parametrize("step", [1, 5, 8])
def test_ctrl_c_finishes_the_step_and_saves_it(tmp_path, make_trainer, images, val_images, whole, step, capfd):
    before = signal.getsignal(signal.SIGINT)
    trainer = make_trainer(tmp_path / "run", callbacks=[At(step, ctrl_c)])
    with pytest.raises(Interrupted, match=r"saved in .*run: go on with resume=True"):
        trainer.fit(images, val_images, EPOCHS)
    assert signal.getsignal(signal.SIGINT) is before
    assert "stopping after this step" in capfd.readouterr().err
    resumed = make_trainer(tmp_path / "run")
    seen = []
    resumed.callbacks.append(At(step + 1, lambda: seen.append((resumed.epoch, resumed.batch))))
    resumed.fit(images, val_images, EPOCHS, resume=True)
    assert seen == [(step // BATCHES, step % BATCHES + 1)]  # not a step was lost
    assert results(tmp_path / "run") == whole


def test_ctrl_c_during_evaluation(tmp_path, make_trainer, images, val_images, whole):
    trainer = make_trainer(tmp_path / "run")
    evaluate, calls = trainer.evaluate, []

    def interrupted(data):
        calls.append(data)
        if len(calls) == 2:
            ctrl_c()
        return evaluate(data)

    trainer.evaluate = interrupted
    with pytest.raises(Interrupted):
        trainer.fit(images, val_images, EPOCHS)
    make_trainer(tmp_path / "run").fit(images, val_images, EPOCHS, resume=True)
    assert results(tmp_path / "run") == whole


def test_ctrl_c_during_a_checkpoint(tmp_path, make_trainer, images, val_images, whole, monkeypatch):
    save = checkpoint_module.replacing
    saves = []

    def interrupted(path):
        saves.append(path)
        if len(saves) == 2:
            ctrl_c()
        return save(path)

    monkeypatch.setattr(checkpoint_module, "replacing", interrupted)
    with pytest.raises(Interrupted):
        make_trainer(tmp_path / "run").fit(images, val_images, EPOCHS)
    make_trainer(tmp_path / "run").fit(images, val_images, EPOCHS, resume=True)
    assert results(tmp_path / "run") == whole


def test_a_second_ctrl_c_stops_at_once_and_leaves_a_whole_checkpoint(
    tmp_path, make_trainer, images, val_images, whole, monkeypatch
):
    def hasty(path):
        if saves.append(path) or len(saves) == 3:
            ctrl_c()
            ctrl_c()
        return save(path)

    save, saves = checkpoint_module.replacing, []
    monkeypatch.setattr(checkpoint_module, "replacing", hasty)
    with pytest.raises(KeyboardInterrupt) as error:
        make_trainer(tmp_path / "run").fit(images, val_images, EPOCHS)
    assert not isinstance(error.value, Interrupted)
    make_trainer(tmp_path / "run").fit(images, val_images, EPOCHS, resume=True)
    assert results(tmp_path / "run") == whole


def test_ctrl_c_without_a_run_directory(make_trainer, images):
    trainer = make_trainer(callbacks=[At(3, ctrl_c)])
    with pytest.raises(Interrupted, match="stopped in epoch 1 after 3 batches"):
        trainer.fit(images)


def test_training_in_another_thread_leaves_signals_alone(make_trainer, images):
    trainer = make_trainer()
    thread = threading.Thread(target=trainer.fit, args=(images,))
    thread.start()
    thread.join()
    assert trainer.epoch == 1


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_killed_process_goes_on_bit_for_bit(tmp_path):
    """Kills a training process again and again, wherever it is, and compares with one that was left alone."""
    program = textwrap.dedent("""
        import sys
        sys.path.insert(0, sys.argv[1])
        from conftest import toy_images, toy_trainer
        from nnk.train import Callback, Checkpoint
        class Say(Callback):
            def batch_end(self, trainer, samples):
                print(trainer.epoch, trainer.batch, flush=True)
        trainer = toy_trainer(sys.argv[2], callbacks=[Checkpoint(steps=3), Say()])
        trainer.fit(toy_images(200), toy_images(23, seed=1), epochs=4, resume=sys.argv[3] == "resume")
        print("done", flush=True)
    """)

    def start(out, mode):
        command = [sys.executable, "-c", program, Path(__file__).parent, out, mode]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    process = start(tmp_path / "whole", "new")
    assert process.communicate()[0].endswith("done\n")
    rng = random.Random(0)
    mode = "new"
    for _ in range(3):
        process = start(tmp_path / "run", mode)
        for _ in range(rng.randrange(5, 25)):
            process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        mode = "resume"
    process = start(tmp_path / "run", mode)
    output = process.communicate()[0]
    assert output.endswith("done\n")
    assert not output.startswith("0 1\n")
    assert results(tmp_path / "run") == results(tmp_path / "whole")
    assert not list((tmp_path / "run").glob(".*"))


# ---------------------------------------------------------------- what cannot be resumed
@pytest.fixture
def half(tmp_path, make_trainer, images):
    """A run that was cut off in its second epoch."""
    with pytest.raises(Cut):
        make_trainer(tmp_path / "half", callbacks=[At(7, cut)]).fit(images, epochs=3)
    return tmp_path / "half"


def test_truncated_checkpoints_are_refused_and_left_alone(half, make_trainer, images, contents):
    path = half / "checkpoint.safetensors"
    whole = path.read_bytes()
    trainer = make_trainer(half)
    for length in [0, 1, 7, 8, 9, *range(100, len(whole), 251), len(whole) - 1]:
        path.write_bytes(whole[:length])
        before = contents(half)
        with pytest.raises(CheckpointError, match=r"checkpoint .*half.*is truncated or damaged"):
            trainer.fit(images, epochs=3, resume=True)
        assert contents(half) == before
    path.write_bytes(whole)
    trainer.fit(images, epochs=3, resume=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": 0.02}, r"groups\.0\.\w*lr is 0\.02 here and 0\.01 in the run"),
        ({"seed": 2}, "seed is 2 here and 1 in the run"),
        ({"scheduler": False}, "scheduler is null here and {.* in the run"),
        ({"scheduler_interval": "epoch"}, 'scheduler_interval is "epoch" here and "step" in the run'),
        ({"config": {"data": "other"}}, 'data is "other" here and null in the run'),
    ],
)
def test_another_run_is_refused_by_what_differs(half, make_trainer, images, contents, change, message):
    before = contents(half)
    with pytest.raises(CheckpointError, match=f"cannot resume .*half, it is another run: .*{message}"):
        make_trainer(half, **change).fit(images, epochs=3, resume=True)
    assert contents(half) == before


def test_another_model_or_other_data_are_refused(half, make_trainer, images):
    other = make_trainer(half)
    other.model[2] = nn.Tanh()
    with pytest.raises(CheckpointError, match=r"model\.\d is .*ReLU"):
        Trainer(
            other.model, optimizer=other.optimizer, scheduler=other.scheduler, scheduler_interval="step", out=half
        ).fit(DataLoader(list(zip(*images)), 10, shuffle=True, seed=1), epochs=3, resume=True)
    with pytest.raises(CheckpointError, match="samples is 40 here and 50 in the run"):
        make_trainer(half).fit((images[0][:40], images[1][:40]), epochs=3, resume=True)
    trainer = make_trainer(half)
    trainer.batch_size = 25
    with pytest.raises(CheckpointError, match="batch_size is 25 here and 10 in the run"):
        trainer.fit(images, epochs=3, resume=True)


def test_nothing_to_resume(tmp_path, make_trainer, images):
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        make_trainer(tmp_path / "none").fit(images, resume=True)
    assert not (tmp_path / "none").exists()
    with pytest.raises(ValueError, match="out is None, but resume needs the run directory"):
        make_trainer().fit(images, resume=True)


def test_a_run_that_dies_while_it_is_set_up_can_be_resumed(tmp_path, make_trainer, images, monkeypatch):
    make_trainer(tmp_path / "whole").fit(images)
    with monkeypatch.context() as patch:
        patch.setattr(files, "write_text", lambda path, text: cut())
        with pytest.raises(Cut):
            make_trainer(tmp_path / "run").fit(images)
    make_trainer(tmp_path / "run").fit(images, resume=True)
    assert results(tmp_path / "run") == results(tmp_path / "whole")
    assert (tmp_path / "run" / "config.json").exists()


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(half, make_trainer, images, monkeypatch):
    def no_space(path, data):
        with open(path, "wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.write_bytes", no_space)
        with pytest.raises(OSError, match="No space left"):
            make_trainer(half).fit(images, epochs=3, resume=True)
    assert len(make_trainer(half).fit(images, epochs=3, resume=True)) == 3


def test_checkpoints_by_the_clock(tmp_path, make_trainer, images, monkeypatch):
    clock, saves = [0.0], []

    class Tick(Callback):
        def batch_end(self, trainer, samples):
            clock[0] += 1

    monkeypatch.setattr("nnk.train.callbacks.time.monotonic", lambda: clock[0])
    trainer = make_trainer(tmp_path / "run", callbacks=[Tick(), Checkpoint(seconds=2)])
    save = trainer.save
    trainer.save = lambda: saves.append((trainer.epoch, trainer.batch)) or save()
    trainer.fit(images)
    assert saves == [(0, 0), (0, 2), (0, 4), (1, 0), (1, 0)]
    with pytest.raises(ValueError, match="steps is 0, expected at least 1"):
        Checkpoint(steps=0)


def test_a_run_is_not_overwritten(half, make_trainer, images, contents):
    before = contents(half)
    with pytest.raises(FileExistsError, match="holds a run already"):
        make_trainer(half).fit(images)
    assert contents(half) == before


def test_another_number_of_threads_is_a_warning(half, make_trainer, images, monkeypatch):
    threads = nnk.get_num_threads()
    monkeypatch.setattr("nnk.backend.get_num_threads", lambda: threads + 1)
    with pytest.warns(UserWarning, match=f"threads is {threads + 1} here and {threads} in the run"):
        make_trainer(half).fit(images, epochs=3, resume=True)


def test_the_files_of_a_run(half, make_trainer, images):
    make_trainer(half, config=None).fit(images, epochs=3, resume=True)
    names = {path.name for path in half.iterdir()}
    assert names - {"curves.png"} == {
        "config.json", "history.csv", "checkpoint.safetensors", "model.safetensors"
    }  # fmt: skip
    rows = np.genfromtxt(half / "history.csv", delimiter=",", names=True)
    assert rows.dtype.names == ("epoch", "lr", "loss", "accuracy")
    assert rows["epoch"].tolist() == [1, 2, 3]
