"""What tests of commands share."""

import re

from memsinks.cli import main


def flat(text):
    """What is printed, without the borders of panels and the breaks of lines."""
    return " ".join(re.sub("[│─╭╮╰╯┃]", " ", text).split())


def assert_refused(arguments, words, root, capsys):
    """A command ends with one line that has these words, and leaves the folder as it was."""
    before = sorted(root.rglob("*"))
    assert main(arguments) == 2
    message = capsys.readouterr().err.strip()
    assert message.startswith("memsinks: error: ")
    assert len(message.splitlines()) == 1
    for word in words:
        assert word in message
    assert sorted(root.rglob("*")) == before
