import subprocess
import sys

import pytest

from benchmarks.aggregate import TWELVE
from benchmarks.data.knowledge import load_knowledge
from benchmarks.errors import UserError
from benchmarks.evoke import Evoke
from benchmarks.registry import all_benchmarks, get_benchmark
from benchmarks.retention import Retention
from helpers.paths import ROOT


def test_all_names():
    names = [entry.name for entry in all_benchmarks()]
    real = ["EVOKE", *TWELVE, "Editing"]
    assert names == [*(f"mini-{name}" for name in real), *real]
    assert len({entry.dimension for entry in all_benchmarks()}) == 9


def test_listing_loads_nothing_heavy():
    script = (
        "import sys\nfrom benchmarks.registry import all_benchmarks\nall_benchmarks()\n"
        "print(sorted({'torch', 'pandas', 'pydantic', 'numpy', 'vlmeval', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize(
    ("wrong", "right"), [("mini-mme", "mini-MME"), ("MMEE", "MME"), ("HalusionBench", "HallusionBench")]
)
def test_an_unknown_name_gets_the_nearest(wrong, right):
    with pytest.raises(UserError, match=f"did you mean {right!r}"):
        get_benchmark(wrong)
    assert get_benchmark(right).name == right


def test_opening(tmp_path):
    mini = get_benchmark("mini-MathVista").open(tmp_path)
    assert isinstance(mini, Retention)
    assert (mini.name, mini.judge, mini.is_mini) == ("mini-MathVista", "rule", True)
    with pytest.raises(UserError, match="does not come with this package"):
        get_benchmark("MathVista").open(tmp_path)
    real = get_benchmark("MathVista").open(tmp_path, tmp_path)
    assert isinstance(real, Retention)
    assert (real.data.name, real.judge, real.is_mini) == ("MathVista_MINI.tsv", "", False)
    assert real.max_new_tokens > mini.max_new_tokens
    evoke = get_benchmark("EVOKE").open(tmp_path, tmp_path)
    assert evoke.data.name == "evoke_evaluation_data.jsonl"


def test_the_embedded_evoke_is_whole(tmp_path):
    benchmark = get_benchmark("mini-EVOKE").open(tmp_path)
    assert isinstance(benchmark, Evoke)
    questions = benchmark.questions()
    items = load_knowledge(benchmark.data.parent / "evoke_injection_data.json")
    assert len(questions) == len(items) >= 300
    assert {question.group for question in questions} == {"news", "entity"}
    assert len({item.type for item in items}) >= 8
    injected = {item.picture.sha256 for item in items}
    assert not injected & {question.pictures[0].sha256 for question in questions if question.group == "entity"}
