"""`python -m bench` and `nnk bench`: all benches, or one.

    nnk bench [conv | ops | step | infer] [options of the bench]
    nnk bench report [--write]
"""

import sys
from importlib import import_module
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

MODULES = {"step": "cpu_step", "infer": "cpu_infer", "conv": "cpu_conv", "ops": "cpu_ops", "report": "report"}


def main(arguments: list[str]) -> None:
    """Run the bench that comes first among the arguments, or all of them."""
    if arguments and arguments[0] in MODULES:
        import_module(MODULES[arguments[0]]).main(arguments[1:])
    elif arguments and arguments[0] in ("-h", "--help"):
        print(__doc__)
    elif arguments and not arguments[0].startswith("-"):
        sys.exit(f"nnk bench: unknown bench {arguments[0]!r}, known are: {', '.join(MODULES)}")
    else:
        for name in MODULES:
            if name != "report":
                import_module(MODULES[name]).main(arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
