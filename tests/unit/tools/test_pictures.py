"""Pictures of workflows: a look for each kind, labels, hostile names, large graphs."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from xml.dom import minidom

import pytest

import cascade as cs
from cascade.graph.build import build_graph
from cascade.graph.model import EdgeType, NodeKind
from cascade.tools.picture_text import LONGEST, shortened

FORMATS = ["mermaid", "dot"]
HOSTILE = [
    'say "hi"', "it's", "two\nlines", "a]b[c", "{x}", "<b>bold</b>", "&lt;&amp;", "back\\slash", "\\n", "\\", "\\\"",
    "%%{init: {'theme':'dark'}}%%", "%% comment", "`code`", "**bold**", "__init__", "end", "graph", "subgraph",
    "click", "call", "#quot;", "#35;", ";", "style x fill:#fff;", "a|b", "-->", "задача", "数据", "😀", "\x00\x07",
    "\u202ereversed", "\ud800", "x" * 500, "<script>alert(1)</script>", "javascript:alert(1)", "\t", "\u2028", " ",
    "¶ß", "ﬂ°°60¶ß", "1. list", "- list", "[a](b)", "# head", "@{ shape: circle }", '"]', '")', "\\N \\G \\E",
    ":::call", "style:#quot;", "n0", "/* x */", "// x", "}\ndigraph evil {",
]  # fmt: skip


@cs.task
def load(path):
    return path


@cs.task
def parse(text, mode="plain"):
    return text


@cs.task
def check():
    return True


@cs.task
def count(**words):
    return len(words)


def tour():
    """A workflow with every kind of node and of edge."""

    @cs.resource
    def db():
        yield 1

    @cs.task(executor="process")
    def measure(page):
        return page

    source = load(cs.Param("path", default="a.txt")).with_retry(max_attempts=5).with_cache(cs.InputsCache())
    sizes = measure.map(page=parse(source)["pages"]).with_constraints(gpu=cs.Param("gpus", default=1), disk=2)
    plot = parse(sizes, mode=cs.Env("HOME", default="")).run_if(check())
    log = cs.task(lambda db=cs.inject(db): db, name="log")().after(plot)
    return {
        "route": cs.Router(check(), {True: plot, "b": "nothing", None: log}),
        "sequence": cs.sequence([parse("1"), parse("2")]),
        "pipeline": cs.pipeline(3, [parse]),
        "pair": parse("t").unpack(2)[1],
    }


def hostile():
    """A workflow with hostile texts wherever a text can stand."""
    value = load(1)
    for name in HOSTILE:
        value = load(value).named(name)
    return [
        cs.Router(check(), dict.fromkeys(HOSTILE, value)),
        count(**dict.fromkeys(HOSTILE, value)),
        load(1).with_constraints(**{name: cs.Param(f"p{place}", default=1) for place, name in enumerate(HOSTILE)}),
        load(1).with_constraints(**dict.fromkeys(HOSTILE, 1)),
        dict.fromkeys(HOSTILE, value),
        value['a"]b'],
        *[cs.Router(check(), {True: name}) for name in HOSTILE],
        *[cs.Param(name, default=1) for name in HOSTILE if name.strip()],
    ]


# A small grammar of each format, as strict as what is written.

_QUOTED = r'"(?:[^"\\\n]|\\.)*"'
_ATTRIBUTE = rf"\w+=(?:{_QUOTED}|\w+)"
_ATTRIBUTES = rf"\[{_ATTRIBUTE}(?:, {_ATTRIBUTE})*\]"
DOT_NODE = re.compile(rf"  n(\d+) ({_ATTRIBUTES});")
DOT_EDGE = re.compile(rf"  n(\d+) -> n(\d+) ({_ATTRIBUTES});")
DOT_DEFAULTS = re.compile(rf"  (?:graph|node|edge) {_ATTRIBUTES};")


def read_dot(text):
    first, *lines, last = text.split("\n")
    assert (first, last) == ("digraph workflow {", "}")
    nodes, edges = {}, []
    for line in lines:
        if found := DOT_NODE.fullmatch(line):
            nodes[int(found[1])] = attributes(found[2])
        elif found := DOT_EDGE.fullmatch(line):
            edges.append((int(found[1]), int(found[2]), attributes(found[3])))
        else:
            assert DOT_DEFAULTS.fullmatch(line), line
    return nodes, edges


def attributes(text):
    return {
        found[1]: found[2].strip('"') if '"' not in found[2][1:-1] else found[2][1:-1]
        for found in re.finditer(rf"(\w+)=({_QUOTED}|\w+)", text)
    }


_LABEL = r"\"((?:[^\"<>{}()|`%*@$&\\:;#\n]|#\d+;|<br/>)+)\""
_OPENING, _CLOSING = r"\[\[|\[/|\[\(|\(\[|\[|\(|\{\{|\{|>", r"\]\]|/\]|\)\]|\]\)|\]|\)|\}\}|\}"
MERMAID_NODE = re.compile(rf"  n(\d+)({_OPENING}){_LABEL}({_CLOSING}):::(kind_\w+)")
MERMAID_EDGE = re.compile(rf"  n(\d+) (-->|-\.->|--o|-\.-o|==>|--x)(?:\|{_LABEL}\|)? n(\d+)")
MERMAID_STYLE = re.compile(
    r"  (?:classDef kind_\w+ fill:#\w{6},stroke:#\w{6},color:#\w{6}"
    r"|linkStyle \d+(?:,\d+)* stroke:#\w{6}|style n\d+ stroke-width:4px)"
)


def read_mermaid(text):
    first, *lines = text.split("\n")
    assert first == "flowchart TD"
    nodes, edges = {}, []
    for line in lines:
        if found := MERMAID_NODE.fullmatch(line):
            nodes[int(found[1])] = {"shape": found[2] + found[4], "label": unescaped(found[3]), "class": found[5]}
        elif found := MERMAID_EDGE.fullmatch(line):
            edges.append((int(found[1]), int(found[4]), {"line": found[2], "label": unescaped(found[3] or "")}))
        else:
            assert MERMAID_STYLE.fullmatch(line), line
    return nodes, edges


def unescaped(label):
    return re.sub(r"#(\d+);", lambda found: chr(int(found[1])), label)


READ = {"mermaid": read_mermaid, "dot": read_dot}


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("workflow", [tour, hostile])
def test_a_picture_has_every_node_and_every_edge(workflow, format) -> None:
    target = workflow()
    graph, _ = build_graph(target)
    nodes, edges = READ[format](cs.visualize(target, format=format))
    assert sorted(nodes) == [node.index for node in graph.nodes]
    assert [(source, end) for source, end, _ in edges] == [
        (edge.source.index, edge.target.index) for edge in graph.edges
    ]


@pytest.mark.parametrize("format", FORMATS)
def test_each_kind_of_node_and_of_edge_has_its_own_look(format) -> None:
    target = tour()
    graph, _ = build_graph(target)
    nodes, edges = READ[format](cs.visualize(target, format=format))
    look_of_kind, look_of_type = {}, {}
    for node in graph.nodes:
        look_of_kind.setdefault(node.kind, set()).add(nodes[node.index]["shape"])
    for edge, (_, _, look) in zip(graph.edges, edges, strict=True):
        line = look["line"] if format == "mermaid" else (look["style"], look["arrowhead"], look["color"])
        look_of_type.setdefault(edge.edge_type, set()).add(line)
    assert set(look_of_kind) == set(NodeKind)
    assert set(look_of_type) == set(EdgeType)
    for looks in (look_of_kind, look_of_type):
        assert all(len(found) == 1 for found in looks.values()), looks
        assert len({next(iter(found)) for found in looks.values()}) == len(looks), looks


def test_mermaid_colors_each_kind_of_edge_and_of_node() -> None:
    target = tour()
    graph, _ = build_graph(target)
    lines = cs.visualize(target).split("\n")
    colors = {}
    for line in lines:
        if found := re.fullmatch(r"  linkStyle ([\d,]+) stroke:(#\w+)", line):
            for number in found[1].split(","):
                colors[int(number)] = found[2]
    by_type = {}
    for number, edge in enumerate(graph.edges):
        by_type.setdefault(edge.edge_type, set()).add(colors[number])
    assert all(len(found) == 1 for found in by_type.values())
    assert len({next(iter(found)) for found in by_type.values()}) == len(EdgeType)
    defined = {line.split()[1] for line in lines if line.startswith("  classDef")}
    used = {look["class"] for look in read_mermaid("\n".join(lines))[0].values()}
    assert defined == used


@pytest.mark.parametrize("format", FORMATS)
def test_edges_are_labeled_with_arguments_routes_and_resources(format) -> None:
    _, edges = READ[format](cs.visualize(tour(), format=format))
    labels = {look.get("label", "") for _, _, look in edges}
    assert {"path", "text", "page", "mode", "run_if", "after", "gpu", "selector", "True", "'b'", "None"} <= labels
    assert {"['route']", "[0]", "step", "before", "value"} <= labels


@pytest.mark.parametrize("format", FORMATS)
def test_nodes_tell_what_was_asked_for_beside_their_inputs(format) -> None:
    text = " ".join(look["label"] for look in READ[format](cs.visualize(tour(), format=format))[0].values())
    for note in (
        "up to 5 attempts", "cached", "executor process", "injects db", "disk 2", "$HOME", "'nothing'", "['pages']",
        "unpack 2",
    ):  # fmt: skip
        assert note in text, note


@pytest.mark.parametrize("format", FORMATS)
def test_the_target_stands_out(format) -> None:
    text = cs.visualize(parse(load(1)), format=format)
    assert text.count("width") == 1
    assert re.search(r"style n1 stroke-width:4px" if format == "mermaid" else r"n1 \[.*penwidth=3", text)


def test_hostile_names_come_back_from_mermaid_as_they_were() -> None:
    nodes, _ = read_mermaid(cs.visualize(hostile()))
    labels = [look["label"] for look in nodes.values()]
    for name in HOSTILE:
        assert shortened(name) in labels


def test_hostile_names_come_back_from_dot_as_they_were() -> None:
    nodes, _ = read_dot(cs.visualize(hostile(), format="dot"))
    labels = []
    for look in nodes.values():
        plain = re.sub(r"\\(.)", lambda found: "\n" if found[1] == "n" else found[1], look["label"])
        labels.append(plain.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    for name in HOSTILE:
        assert shortened(name) in labels


@pytest.mark.parametrize("format", FORMATS)
def test_a_picture_is_text_that_can_be_written_to_a_file(format) -> None:
    text = cs.visualize(hostile(), format=format)
    assert text.encode("utf-8")
    assert all(character.isprintable() or character == "\n" for character in text)


@pytest.mark.parametrize("format", FORMATS)
def test_very_long_names_lose_their_middle(format) -> None:
    text = cs.visualize(load(1).named("a" * 5000 + "b" * 5000), format=format)
    assert len(max(re.findall("a+", text), key=len)) > 20
    assert len(max(re.findall("b+", text), key=len)) > 15
    assert max(len(line) for line in text.split("\n")) < 300


def test_shortening_keeps_what_fits() -> None:
    assert shortened("x" * LONGEST) == "x" * LONGEST
    assert len(shortened("x" * (LONGEST + 1))) == LONGEST
    assert shortened("") == ""


@pytest.mark.parametrize("format", FORMATS)
def test_the_same_workflow_gives_the_same_picture(format) -> None:
    assert cs.visualize(tour(), format=format) == cs.visualize(tour(), format=format)
    target = tour()
    assert cs.visualize(target, format=format) == cs.visualize(target, format=format)


@pytest.mark.parametrize("format", FORMATS)
def test_addresses_and_the_order_of_sets_do_not_show(format) -> None:
    # Hashes and addresses differ from process to process.
    program = (
        "import cascade as cs\n"
        "f = cs.task(lambda x: x, name='f')\n"
        "key = cs.Param('key', default=1)\n"
        "print(cs.visualize([cs.Router(key, {1: {'a', 'b', 'c', 'd'}, 2: object()}), {f(1), f(2), f(3)}],"
        f" format={format!r}))"
    )
    texts = {
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": seed},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }  # fmt: skip
    assert len(texts) == 1
    assert "0x..." in unescaped(texts.pop())


@pytest.mark.parametrize("format", FORMATS)
def test_ten_thousand_nodes_in_a_row_and_side_by_side(format) -> None:
    chain = load(1)
    for _ in range(9_999):
        chain = load(chain)
    nodes, edges = READ[format](cs.visualize(chain, format=format))
    assert (len(nodes), len(edges)) == (10_000, 9_999)
    nodes, edges = READ[format](cs.visualize([load(number) for number in range(10_000)], format=format))
    assert (len(nodes), len(edges)) == (10_001, 10_000)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("target", [None, 3, "text", [1, 2], {"a": 1}, pytest.param(object(), id="object")], ids=repr)
def test_plain_values_can_be_drawn(target, format) -> None:
    nodes, edges = READ[format](cs.visualize(target, format=format))
    assert (len(nodes), edges) == (1, [])


def test_a_literal_whose_repr_raises_is_drawn_all_the_same() -> None:
    class Strange:
        def __repr__(self):
            raise RuntimeError("no")

    assert "Strange" in cs.visualize(Strange())


def test_drawing_runs_nothing() -> None:
    called = []
    cs.visualize(cs.task(called.append)(cs.task(called.append)(1)))
    assert called == []


@pytest.mark.parametrize("format", ["svg", "", None, "Mermaid"])
def test_another_format_is_an_error_that_names_the_two(format) -> None:
    with pytest.raises(cs.DeclarationError, match="'mermaid' or 'dot', got"):
        cs.visualize(load(1), format=format)


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")
@pytest.mark.parametrize("workflow", [tour, hostile])
def test_graphviz_draws_it(workflow) -> None:
    target = workflow()
    graph, _ = build_graph(target)
    drawn = subprocess.run(
        ["dot", "-Tsvg"], input=cs.visualize(target, format="dot").encode(), capture_output=True, check=True
    )
    picture = minidom.parseString(drawn.stdout)
    kinds = [group.getAttribute("class").split()[0] for group in picture.getElementsByTagName("g")]
    assert (kinds.count("node"), kinds.count("edge")) == (len(graph), len(graph.edges))
    texts = ["".join(child.data for child in text.childNodes) for text in picture.getElementsByTagName("text")]
    if workflow is hostile:
        for name in HOSTILE:
            # An SVG keeps spaces as spaces that do not break.
            assert shortened(name).replace(" ", "\xa0") in [text.replace(" ", "\xa0") for text in texts], name
