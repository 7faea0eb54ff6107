import copy
import gc
import pickle
import threading
import weakref

import numpy as np
import pytest

import nnk
from nnk import nn
from nnk.nn import pending

pytestmark = pytest.mark.usefixtures("reference")
X = np.arange(6.0).reshape(2, 3)


class Scale(nn.Module):
    def __init__(self, factor=2.0):
        self.factor = nn.Parameter(np.array([factor]))

    def forward(self, x):
        self.save(x)
        return x * self.factor.data

    def backward(self, dy):
        x = self.saved()
        self.factor.accumulate((dy * x).sum().reshape(1))
        return dy * self.factor.data


class Fails(nn.Module):
    def forward(self, x):
        raise ZeroDivisionError

    def backward(self, dy):
        raise ZeroDivisionError


def waiting(module):
    return [len(m._pending) for m in module.modules()]


def test_backward_before_forward():
    with pytest.raises(RuntimeError, match=r"ReLU.backward\(\) has no forward to go back through"):
        nn.ReLU().backward(X)


def test_backward_twice():
    model = nn.Sequential(nn.Tanh(), nn.ReLU())
    model(X)
    model.backward(X)
    with pytest.raises(RuntimeError, match=r"Sequential\.backward"):
        model.backward(X)


def test_last_in_first_out():
    scale = Scale()
    scale(X)
    scale(10 * X)
    scale.backward(np.ones((2, 3)))
    np.testing.assert_allclose(scale.factor.grad, 10 * X.sum())
    scale.backward(np.ones((2, 3)))
    np.testing.assert_allclose(scale.factor.grad, 11 * X.sum())


def test_a_module_used_twice_in_a_network():
    assert nnk.testing.gradcheck(nn.Sequential(shared := nn.Linear(3, 3), nn.Tanh(), shared), X)


def test_a_parameter_in_two_modules():
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    second.weight = first.weight
    model = nn.Sequential(first, nn.Tanh(), second)
    assert len(list(model.parameters())) == 3
    assert nnk.testing.gradcheck(model, X)


@pytest.mark.parametrize("grad", [np.ones((3, 2)), np.ones(3), np.ones((2, 3, 1)), 1.0])
def test_dy_of_another_shape_takes_nothing(grad):
    model = nn.Sequential(Scale(), nn.ReLU())
    model(X)
    before = waiting(model)
    with pytest.raises(ValueError, match=r"dy has shape .*, expected the output's, \(2, 3\)"):
        model.backward(grad)
    assert waiting(model) == before
    assert model.backward(X).shape == (2, 3)


def test_dy_of_another_dtype_or_none():
    relu = nn.ReLU()
    relu(X)
    with pytest.raises(TypeError, match="dy has dtype float32, expected the output's, float64"):
        relu.backward(X.astype(np.float32))
    with pytest.raises(TypeError, match="dy is None"):
        relu.backward(None)
    assert relu.backward(X.tolist()).dtype == np.float64


def test_no_grad_saves_nothing():
    model = nn.Sequential(Scale(), nn.ReLU())
    with nnk.no_grad():
        model(X)
    assert waiting(model) == [0, 0, 0]

    @nnk.no_grad()
    def predict():
        return model(X)

    predict()
    assert waiting(model) == [0, 0, 0]
    model(X)
    assert waiting(model) == [1, 1, 1]


def test_no_grad_ends_with_an_exception_and_stays_in_its_thread():
    with pytest.raises(ZeroDivisionError), nnk.no_grad():
        Fails()(X)
    relu = nn.ReLU()
    with nnk.no_grad():
        thread = threading.Thread(target=relu, args=(X.astype(np.float32),))
        thread.start()
        thread.join()
    assert len(relu._pending) == 1


def test_a_forward_that_raises_leaves_every_stack_as_it_was():
    shared = Scale()
    model = nn.Sequential(shared, nn.Sequential(nn.ReLU(), shared), Fails())
    shared(X)
    with pytest.raises(ZeroDivisionError):
        model(X)
    assert waiting(model) == [0, 1, 0, 0, 0]
    shared.backward(X)


def test_a_backward_that_fails_halfway_drops_the_rest():
    class BadBackward(nn.Module):
        def forward(self, x):
            return x

        def backward(self, dy):
            raise ZeroDivisionError

    model = nn.Sequential(Scale(), BadBackward(), nn.ReLU())
    model(X)
    with pytest.raises(ZeroDivisionError):
        model.backward(X)
    assert waiting(model) == [0, 0, 0, 0]


def test_what_backward_does_not_use_is_dropped():
    class TwoHeads(nn.Module):
        def __init__(self):
            self.trunk, self.head, self.other = Scale(), Scale(), Scale()

        def forward(self, x):
            x = self.trunk(x)
            self.other(x)
            return self.head(x)

        def backward(self, dy):
            return self.trunk.backward(self.head.backward(dy))

    model = TwoHeads()
    for _ in range(3):
        model(X)
        model.backward(X)
    assert waiting(model) == [0, 0, 0, 0]


def test_a_new_outermost_forward_in_eval_drops_the_earlier_ones():
    model = nn.Sequential(Scale(), nn.ReLU()).eval()
    for _ in range(5):
        model(X)
    assert waiting(model) == [1, 1, 1]
    assert model.backward(X).shape == (2, 3)


def test_eval_drops_only_what_began_at_the_module_itself():
    scale = Scale().eval()
    model = nn.Sequential(scale, nn.ReLU())
    model(X)
    scale(X)
    scale(X)
    assert waiting(model) == [1, 2, 1]
    scale.backward(X)
    model.backward(X)


def test_a_module_in_eval_inside_a_network_in_training_keeps_its_forwards():
    model = nn.Sequential(Scale().eval(), nn.ReLU())
    model(X)
    model(X)
    assert waiting(model) == [2, 2, 2]


def test_a_thousand_forwards_may_wait(monkeypatch):
    monkeypatch.setattr(pending, "MAX_PENDING", 3)
    model = nn.Sequential(nn.ReLU())
    for _ in range(3):
        model(X)
    with pytest.raises(RuntimeError, match=r"3 forwards without a backward.*no_grad"):
        model(X)
    assert waiting(model) == [3, 3]
    model.backward(X)
    model(X)


def test_the_limit_is_a_thousand():
    assert pending.MAX_PENDING == 1000


def test_input_grad_false_on_a_module_that_does_not_know_it():
    model = nn.Sequential(Scale(), nn.ReLU())
    model(X)
    assert model.backward(np.ones((2, 3)), input_grad=False) is None
    np.testing.assert_allclose(model[0].factor.grad, X.sum())


def test_input_grad_reaches_the_first_layer():
    seen = []

    class Looks(nn.Module):
        def forward(self, x):
            return x

        def backward(self, dy, input_grad=True):
            seen.append(input_grad)
            return dy

    model = nn.Sequential(nn.Sequential(Looks(), Looks()), Looks())
    model(X)
    model.backward(X, input_grad=False)
    assert seen == [True, True, False]


def test_forward_can_be_called_by_its_name():
    scale = Scale()
    scale.forward(X)
    assert scale.backward(X).shape == (2, 3)


def test_subclass_that_overrides_forward_alone():
    class Loud(Scale):
        def forward(self, x):
            return super().forward(x)

    class Louder(Loud):
        def forward(self, x):
            return super().forward(x)

    scale = Louder()
    for _ in range(2):
        scale(X)
        np.testing.assert_array_equal(scale.backward(X), 2 * X)
    assert waiting(scale) == [0]


def test_subclass_that_overrides_backward_alone():
    class Halved(Scale):
        def backward(self, dy):
            return super().backward(dy) / 2

    scale = Halved()
    scale(10 * X)
    scale(X)
    np.testing.assert_array_equal(scale.backward(X), X)
    assert waiting(scale) == [1]


def test_subclass_that_overrides_and_saves_in_both():
    class Twice(Scale):
        def forward(self, x):
            self.save("own")
            return 3 * super().forward(x)

        def backward(self, dy):
            assert self.saved() == "own"
            return super().backward(3 * dy)

    scale = Twice()
    scale(X)
    np.testing.assert_array_equal(scale.backward(X), 6 * X)
    assert waiting(scale) == [0]


def test_saved_without_save():
    class Forgets(nn.Module):
        def forward(self, x):
            return x

        def backward(self, dy):
            return self.saved()

    module = Forgets()
    module(X)
    with pytest.raises(RuntimeError, match=r"Forgets.forward saved nothing"):
        module.backward(X)


def test_save_twice():
    class Twice(nn.Module):
        def forward(self, x):
            self.save(x)
            self.save(x)
            return x

    with pytest.raises(RuntimeError, match=r"Twice.forward called save twice"):
        Twice()(X)


def test_a_loss_of_ones_own_starts_from_ones():
    class Squares(nn.Module):
        def forward(self, x, target):
            self.save(x - target)
            return ((x - target) ** 2).sum()

        def backward(self, dy=None):
            return 2 * dy * self.saved()

    criterion = Squares()
    criterion(X, 1.0)
    np.testing.assert_array_equal(criterion.backward(), 2 * (X - 1))
    criterion(X, 1.0)
    np.testing.assert_array_equal(criterion.backward(0.5), X - 1)
    assert nnk.testing.gradcheck(criterion, X, X[::-1])


def test_several_outputs_and_gradients():
    class Split(nn.Module):
        def forward(self, x):
            return x[:1], x[1:]

        def backward(self, dy):
            return np.concatenate(dy)

    split = Split()
    first, second = split(X)
    np.testing.assert_array_equal(split.backward((first, second)), X)
    relu = nn.ReLU()
    relu(X)
    with pytest.raises(ValueError, match="dy has shape"):
        relu.backward((X, X))


def test_copies_and_pickles_drop_what_waits():
    model = nn.Sequential(Scale(), nn.ReLU())
    model(X)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(nn.Sequential(nn.Linear(3, 2), nn.ReLU())))):
        assert not any(waiting(twin))
    with pytest.raises(RuntimeError, match="has no forward"):
        copy.deepcopy(model).backward(X)
    model.backward(X)


def test_pending_forwards_do_not_keep_a_model_alive():
    model = nn.Sequential(Scale(), nn.ReLU())
    model(X)
    alive = weakref.ref(model)
    gc.disable()
    try:
        del model
        assert alive() is None
    finally:
        gc.enable()


def test_backward_frees_what_was_saved_as_it_goes():
    class Saves(nn.Module):
        def forward(self, x):
            self.save(x)
            return x + 1

        def backward(self, dy):
            freed.append(alive() is None)
            return dy

    freed = []
    model = nn.Sequential(Saves(), Saves())
    y = model(X)
    alive = weakref.ref(model[1]._pending[0].saved[0])
    model.backward(y)
    assert freed == [False, True]


def test_watch_sees_inner_modules_first():
    model = nn.Sequential(Scale(), nn.Sequential(nn.ReLU()))
    seen = []
    with nn.watch(lambda module, output: seen.append((module, output.shape))):
        model(X)
    model(X)
    assert [module for module, _ in seen] == [model[0], model[1][0], model[1], model]
    assert {shape for _, shape in seen} == {(2, 3)}


def test_threads_do_not_share_what_runs():
    models = [nn.Sequential(Scale(float(i)), nn.ReLU()) for i in range(4)]

    def work(model):
        for _ in range(50):
            with nnk.use_backend("reference"):
                model(X)
                model.backward(np.ones((2, 3)))

    threads = [threading.Thread(target=work, args=(model,)) for model in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, model in enumerate(models):
        np.testing.assert_allclose(model[0].factor.grad, 50 * X.sum() if i else 0.0)
