"""Functions of single elements.

They take arrays of any shape, 0-d included, and keep shape, dtype and memory order. `inplace` is accepted for
compatibility and changes nothing: the input stays as it is.
"""

from __future__ import annotations

from typing import Any, ClassVar

from nnk import backend
from nnk.nn import arguments
from nnk.nn.module import Module

__all__ = [
    "ELU",
    "GELU",
    "SELU",
    "Hardsigmoid",
    "Hardswish",
    "LeakyReLU",
    "Mish",
    "ReLU",
    "ReLU6",
    "SiLU",
    "Sigmoid",
    "Softplus",
    "Tanh",
]


class ReLU(Module):
    """y = max(x, 0); dx = dy where y > 0, else 0. NaN stays NaN.

    Any shape. Raises TypeError on inputs that are no floats.
    Source: Nair and Hinton (2010), "Rectified linear units improve restricted Boltzmann machines".
    """

    fuses_as: ClassVar = "relu"

    def __init__(self, inplace: bool = False):
        self.inplace = inplace

    def forward(self, x: Any, rectified: bool = False) -> Any:
        """Return max(x, 0). `rectified` is explained in `nnk.nn.fusion`."""
        x = backend.as_array(x)
        y = x if rectified else backend.of(x).relu(x)
        self.save(y)
        return y

    def backward(self, dy: Any, input_grad: bool = True, rectified: bool = False) -> Any:
        """Return dy where the output was positive, else 0."""
        if input_grad:
            return dy if rectified else backend.of(dy).relu_backward(dy, self.saved())

    def extra_repr(self) -> str:
        """Return the arguments that `repr` shows."""
        return _inplace(self)


class _Elementwise(Module):
    """y = f(x), dx = dy f'(x): one kernel each way, `function` and `function` + "_backward"."""

    function: str
    keeps_output: ClassVar[bool] = False  # backward takes y instead of x

    def _options(self) -> dict[str, Any]:
        """Return what the kernels are to know besides arrays."""
        return {}

    def forward(self, x: Any) -> Any:
        """Return f(x)."""
        x = backend.as_array(x)
        y = getattr(backend.of(x), self.function)(x, **self._options())
        self.save(y if self.keeps_output else x)
        return y

    def backward(self, dy: Any, input_grad: bool = True) -> Any:
        """Return dy f'(x)."""
        if input_grad:
            return getattr(backend.of(dy), f"{self.function}_backward")(dy, self.saved(), **self._options())

    def extra_repr(self) -> str:
        """Return the arguments that `repr` shows."""
        return _inplace(self)


def _inplace(module: Any) -> str:
    return "inplace=True" if getattr(module, "inplace", False) else ""


class LeakyReLU(_Elementwise):
    """y = x where x > 0, else negative_slope * x; dx = dy or negative_slope * dy likewise.

    Any shape. Raises TypeError on inputs that are no floats.
    Source: Maas, Hannun and Ng (2013), "Rectifier nonlinearities improve neural network acoustic models".
    """

    function = "leaky_relu"

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False):
        self.negative_slope = arguments.number(negative_slope, "negative_slope")
        self.inplace = inplace

    def _options(self) -> dict[str, Any]:
        return {"negative_slope": self.negative_slope}

    def extra_repr(self) -> str:
        """Return the arguments that `repr` shows."""
        return ", ".join(filter(None, [f"negative_slope={self.negative_slope}", _inplace(self)]))


class ReLU6(_Elementwise):
    """y = min(max(x, 0), 6); dx = dy where 0 < y < 6, else 0.

    Any shape. Raises TypeError on inputs that are no floats.
    Source: Krizhevsky (2010), "Convolutional deep belief networks on CIFAR-10".
    """

    function = "relu6"
    keeps_output: ClassVar = True

    def __init__(self, inplace: bool = False):
        self.inplace = inplace


class Hardsigmoid(_Elementwise):
    """y = min(max(x + 3, 0), 6) / 6; dx = dy / 6 where -3 < x < 3, else 0.

    Any shape. Raises TypeError on inputs that are no floats.
    Source: Howard et al. (2019), arXiv:1905.02244.
    """

    function = "hardsigmoid"

    def __init__(self, inplace: bool = False):
        self.inplace = inplace


class Hardswish(_Elementwise):
    """y = x min(max(x + 3, 0), 6) / 6; dx = 0 where x <= -3, dy where x >= 3, else dy (2 x + 3) / 6.

    Any shape. Raises TypeError on inputs that are no floats.
    Source: Howard et al. (2019), arXiv:1905.02244, section 5.2.
    """

    function = "hardswish"

    def __init__(self, inplace: bool = False):
        self.inplace = inplace


class Sigmoid(_Elementwise):
    """y = 1 / (1 + exp(-x)); dx = dy y (1 - y).

    Any shape. Raises TypeError on inputs that are no floats.
    Source: Rumelhart, Hinton and Williams (1986), "Learning representations by back-propagating errors", eq. 2.
    """

    function = "sigmoid"
    keeps_output: ClassVar = True


class Tanh(_Elementwise):
    """y = tanh(x); dx = dy (1 - y²).

    Any shape. Raises TypeError on inputs that are no floats.
    Source: LeCun et al. (1998), "Efficient BackProp", section 4.4.
    """

    function = "tanh"
    keeps_output: ClassVar = True


class ELU(_Elementwise):
    """y = x where x > 0, else alpha (e^x - 1); dx = dy where x > 0, else dy alpha e^x.

    Any shape. Raises TypeError on inputs that are no floats.
    Source: Clevert, Unterthiner and Hochreiter (2016), arXiv:1511.07289.
    """

    function = "elu"

    def __init__(self, alpha: float = 1.0, inplace: bool = False):
        self.alpha = arguments.number(alpha, "alpha")
        self.inplace = inplace

    def _options(self) -> dict[str, Any]:
        return {"alpha": self.alpha}

    def extra_repr(self) -> str:
        """Return the arguments that `repr` shows."""
        return ", ".join(filter(None, [f"alpha={self.alpha}", _inplace(self)]))


class SELU(_Elementwise):
    """y = scale x where x > 0, else scale alpha (e^x - 1); dx = dy scale where x > 0, else dy scale alpha e^x.

    With scale = 1.0507… and alpha = 1.6732… inputs of mean 0 and variance 1 keep both, layer after layer, if weights
    start with mean 0 and variance 1 / fan_in.

    Any shape. Raises TypeError on inputs that are no floats.
    Source: Klambauer et al. (2017), arXiv:1706.02515, which gives the constants to 32 digits.
    """

    function = "elu"
    alpha: ClassVar[float] = 1.6732632423543772848170429916717
    scale: ClassVar[float] = 1.0507009873554804934193349852946

    def __init__(self, inplace: bool = False):
        self.inplace = inplace

    def _options(self) -> dict[str, Any]:
        return {"alpha": self.alpha, "scale": self.scale}


class GELU(_Elementwise):
    """y = x Φ(x), with the distribution function Φ(x) = (1 + erf(x / √2)) / 2 of the normal distribution.

    `approximate` is "none", or "tanh" for Φ(x) ≈ (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2, or, which PyTorch has not,
    "sigmoid" for Φ(x) ≈ 1 / (1 + exp(-1.702 x)). dx = dy (Φ(x) + x Φ'(x)).

    Any shape. Raises ValueError on another approximation, TypeError on inputs that are no floats.
    Source: Hendrycks and Gimpel (2016), arXiv:1606.08415.
    """

    def __init__(self, approximate: str = "none"):
        arguments.only(approximate, "approximate", "none", "tanh", "sigmoid")
        self.approximate = approximate
        self.function = "silu" if approximate == "sigmoid" else "gelu"

    def _options(self) -> dict[str, Any]:
        return {"beta": 1.702} if self.approximate == "sigmoid" else {"approximate": self.approximate}

    def extra_repr(self) -> str:
        """Return the arguments that `repr` shows."""
        return f"approximate={self.approximate!r}"


class SiLU(_Elementwise):
    """y = x σ(x), σ(x) = 1 / (1 + exp(-x)); dx = dy (σ(x) + x σ(x) (1 - σ(x))).

    Any shape. Raises TypeError on inputs that are no floats.
    Sources: Hendrycks and Gimpel (2016), arXiv:1606.08415; Elfwing, Uchibe and Doya (2018), arXiv:1702.03118.
    """

    function = "silu"

    def __init__(self, inplace: bool = False):
        self.inplace = inplace


class Mish(_Elementwise):
    """y = x tanh(log(1 + e^x)); dx = dy (w + x (1 - w²) / (1 + exp(-x))) with w = tanh(log(1 + e^x)).

    Any shape. Raises TypeError on inputs that are no floats.
    Source: Misra (2020), arXiv:1908.08681.
    """

    function = "mish"

    def __init__(self, inplace: bool = False):
        self.inplace = inplace


class Softplus(_Elementwise):
    """y = log(1 + exp(beta x)) / beta, or x where beta x > threshold; dx = dy / (1 + exp(-beta x)), or dy there.

    Any shape. Raises TypeError on inputs that are no floats.
    Source: Dugas et al. (2001), "Incorporating second-order functional knowledge for better option pricing".
    """

    function = "softplus"

    def __init__(self, beta: float = 1.0, threshold: float = 20.0):
        self.beta = arguments.number(beta, "beta")
        self.threshold = arguments.number(threshold, "threshold")

    def _options(self) -> dict[str, Any]:
        return {"beta": self.beta, "threshold": self.threshold}

    def extra_repr(self) -> str:
        """Return the arguments that `repr` shows."""
        return f"beta={self.beta}, threshold={self.threshold}"
