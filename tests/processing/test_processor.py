"""What can be a processor, and what a script gets."""

import json
import os
import stat
from pathlib import Path

import pytest
from tests.support.fakes.attempt_ledger import FakeAttemptLedger

from dropmill.model.errors import ProcessorError
from dropmill.model.uploads import FileIdentity
from dropmill.processing.processor import AttemptPaths, Processor, job_environment
from dropmill.settings import Settings

PATHS = AttemptPaths(input=Path("/in/{work}.txt"), config=Path("/c.yaml"), results=Path("/r"), work=Path("/w"))
STORED = Path("/in/{work}.txt"), FileIdentity(1, 2, 3, 4, 5)


def executable(folder: Path, name: str, text: str = "#!/bin/sh\n") -> Path:
    path = folder / name
    path.write_bytes(text.encode())
    path.chmod(0o755)
    return path


def from_command(folder: Path, *words: str) -> Processor:
    return Processor.from_settings(Settings(command=words), folder)


def argv(processor: Processor, folder: Path) -> list[str]:
    blob = folder / "blob"
    blob.write_bytes(b"x")
    ledger = FakeAttemptLedger()
    order = ledger.orders[ledger.add(blob)]
    filled: list[str] = json.loads(processor.message(order, PATHS, {}, STORED, makes_folders=True))["run"]["argv"]
    return [word.replace(order.job_id, "JOB") for word in filled]


def test_without_settings_the_builtin_processor_runs(tmp_path: Path) -> None:
    processor = Processor.from_settings(Settings(), tmp_path)
    assert processor.target == processor.label == "dropmill.processing.default:process"


@pytest.mark.parametrize("text", ["thumbs", "thumbs:", ":make", "a b:c", "a:b:c", "a/b.py:c", "a:b()"])
def test_a_callable_is_named_as_module_and_function(tmp_path: Path, text: str) -> None:
    with pytest.raises(ProcessorError, match="MODULE:FUNCTION"):
        Processor.from_settings(Settings(processor=text), tmp_path)


def test_the_label_is_the_command_as_it_was_written(tmp_path: Path) -> None:
    assert from_command(tmp_path, "wc", "-c", "{path}").label == "wc -c {path}"


def test_placeholders_are_replaced_once_inside_one_word(tmp_path: Path) -> None:
    """Braces in a value are not replaced again, and a value with a space stays one argument."""
    processor = from_command(tmp_path, "echo", "{path}", "--out={results}/x", "{config}{job_id}")
    assert argv(processor, tmp_path)[1:] == ["/in/{work}.txt", "--out=/r/x", "/c.yamlJOB"]


def test_every_other_brace_stays(tmp_path: Path) -> None:
    words = ["{}", "{ print $1 }", "${HOME}", "{1,2}", "{{path}}", "{", "}{", "a{Path}"]
    filled = argv(from_command(tmp_path, "awk", *words), tmp_path)[1:]
    assert filled == ["{}", "{ print $1 }", "${HOME}", "{1,2}", "{/in/{work}.txt}", "{", "}{", "a{Path}"]


def test_an_unknown_word_in_braces_is_refused_with_those_that_exist(tmp_path: Path) -> None:
    with pytest.raises(ProcessorError, match=r"\{file\} is no placeholder; use \{path\} \{config\}"):
        from_command(tmp_path, "wc", "{file}")


def test_words_that_name_a_file_here_become_absolute(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "tool.py").write_text("")
    outside = tmp_path.parent / "outside.txt"
    outside.write_text("")
    processor = from_command(tmp_path, "sh", "lib/tool.py", "./lib/../lib/tool.py", "lib", "../outside.txt", "nothing")
    tool = str(tmp_path / "lib" / "tool.py")
    assert argv(processor, tmp_path)[1:] == [tool, tool, "lib", "../outside.txt", "nothing"]


def test_the_program_is_searched_in_path_first_then_here(tmp_path: Path) -> None:
    executable(tmp_path, "sh")
    own = executable(tmp_path, "own-tool")
    assert argv(from_command(tmp_path, "sh"), tmp_path)[0] != str(tmp_path / "sh")
    assert argv(from_command(tmp_path, "./sh"), tmp_path)[0] == str(tmp_path / "sh")
    assert argv(from_command(tmp_path, "own-tool"), tmp_path)[0] == str(own)


def test_a_program_that_cannot_run_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "plain.sh").write_text("#!/bin/sh\n")
    (tmp_path / "folder").mkdir()
    executable(tmp_path, "dos.sh", "#!/bin/sh\r\necho hi\r\n")
    executable(tmp_path, "gone.sh", "#!/no/such/interpreter -x\n")
    executable(tmp_path, "bare.sh", "echo hi\n")
    for word, expected in {
        "no-such-program": "there is no program no-such-program in PATH or in the working directory",
        "./missing": "there is no program ./missing",
        "./folder": "is not a file",
        "./plain.sh": "is not executable; chmod",
        "./dos.sh": r"Windows line ends \(CRLF\)",
        "./gone.sh": "interpreter '/no/such/interpreter'",
        "./bare.sh": "without a first line such as #!/bin/sh",
        "{path}": "first word must be the program",
    }.items():
        with pytest.raises(ProcessorError, match=expected) as caught:
            from_command(tmp_path, word)
        assert "\n" not in caught.value.detail


def test_the_environment_describes_the_job_and_has_no_other_variable_of_dropmill(tmp_path: Path) -> None:
    blob = tmp_path / "blob"
    blob.write_bytes(b"12345")
    ledger = FakeAttemptLedger()
    job_id = ledger.add(blob, name="a\0b\ud800.txt")
    variables = job_environment(ledger.orders[job_id], PATHS)
    assert variables == {
        "DROPMILL_JOB_ID": job_id,
        "DROPMILL_JOB_ATTEMPT": "0",
        "DROPMILL_JOB_PATH": "/in/{work}.txt",
        "DROPMILL_JOB_FILE_NAME": "ab?.txt",
        "DROPMILL_JOB_FILE_PATH": "folder/ab?.txt",
        "DROPMILL_JOB_SIZE": "5",
        "DROPMILL_JOB_SHA256": ledger.orders[job_id].sha256,
        "DROPMILL_JOB_CONFIG": "/c.yaml",
        "DROPMILL_JOB_RESULTS": "/r",
        "DROPMILL_JOB_WORK": "/w",
        "DROPMILL_JOB_CLIENT_IP": "192.0.2.7",
        "DROPMILL_JOB_CLIENT_HOST": "pc7.lab.example",
    }


def test_a_program_that_may_be_run_but_not_read_is_taken(tmp_path: Path) -> None:
    path = executable(tmp_path, "secret", "\x7fELF\0")
    path.chmod(stat.S_IXUSR)
    assert argv(from_command(tmp_path, "./secret"), tmp_path) == [os.fspath(path)]
