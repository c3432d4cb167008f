//! What is said about steps: references, arguments, programs.

use insta::assert_snapshot;

use super::{builders::TUMOUR, named, problems};

#[test]
fn unknown_references_are_reported_with_near_names() {
    assert_snapshot!(named(r#"
[params]
epochs = 1
[sources]
data = "x"
[steps.prepare]
run = "cat ${sources.dta} ${data} ${epochs} > ${out}"
[steps.two]
run = "x ${params.epohcs} ${prepar} ${nowhere.x} ${source.data} ${sources}"
outputs = ["a", "b"]
[steps.three]
run = "${two} ${two.c} ${prepare.model} ${out.x} ${HOME}"
[steps.four]
run = ["x", "${out}"]
outputs = { png = "p.png" }
"#), @r###"
    kiln.toml:8:12: unknown source `dta`: the recipe has no source of this name
       at «${sources.dta}»
       help: did you mean `data`?
    kiln.toml:8:27: unknown step `data`: the recipe has no step of this name
       at «${data}»
       help: `data` is a source: write `${sources.data}`
    kiln.toml:8:35: unknown step `epochs`: the recipe has no step of this name
       at «${epochs}»
       help: `epochs` is a parameter: write `${params.epochs}`
    kiln.toml:10:10: unknown parameter `epohcs`: the recipe has no parameter of this name
       at «${params.epohcs}»
       help: did you mean `epochs`?
    kiln.toml:10:27: unknown step `prepar`: the recipe has no step of this name
       at «${prepar}»
       note: a shell variable is written `$${NAME}` or `$NAME`
       help: did you mean `prepare`?
    kiln.toml:10:37: unknown step `nowhere`: the recipe has no step of this name
       at «${nowhere.x}»
       help: its steps: `four`, `prepare`, `three`, `two`
    kiln.toml:10:50: unknown step `source`: the recipe has no step of this name
       at «${source.data}»
       help: did you mean `sources`?
    kiln.toml:10:65: `${sources}` is not a reference: which one? `${sources.NAME}`
       at «${sources}»
    kiln.toml:13:8: `${two}` does not say which output: `two` names its outputs
       at «${two}»
       help: write `${two.a}`, `${two.b}`
    kiln.toml:13:15: step `two` has no output `c`: no such output
       at «${two.c}»
       help: its outputs: `a`, `b`
    kiln.toml:13:24: step `prepare` has no output `model`: no such output
       at «${prepare.model}»
       help: its outputs: `out`
    kiln.toml:13:41: this step has no output `x`: no such output
       at «${out.x}»
       help: its outputs: `out`
    kiln.toml:13:50: unknown step `HOME`: the recipe has no step of this name
       at «${HOME}»
       note: a shell variable is written `$${NAME}` or `$NAME`
       help: its steps: `four`, `prepare`, `three`, `two`
    kiln.toml:15:14: `${out}` does not say which output: the step names its outputs
       at «${out}»
       help: write `${out.png}`
    "###);
}

#[test]
fn reserved_open_and_malformed_references_are_reported_inside_the_text() {
    assert_snapshot!(named(r#"
[steps.a]
run = """
echo "ä\t${in}" ${env.HOME}
echo ${X:-1} ${}
echo ${open
"""
"#), @r###"
    kiln.toml:5:10: `${in}` means nothing: the name `in` is reserved
       at «${in}»
       help: name the source or step that is read
    kiln.toml:5:17: `${env.HOME}` means nothing: the name `env` is reserved
       at «${env.HOME}»
       help: in `run`, write `$HOME`; to take it from the caller, list it in `pass_env`
    kiln.toml:6:6: `${X:-1}` is not a reference: expected names and dots, as in `${sources.data}`, `${step}`, `${step.output}`
       at «${X:-1}»
       help: for a literal `${`, as in a shell variable, write `$${`; `$NAME` needs no care
    kiln.toml:6:14: `${}` is not a reference: expected names and dots, as in `${sources.data}`, `${step}`, `${step.output}`
       at «${}»
       help: for a literal `${`, as in a shell variable, write `$${`; `$NAME` needs no care
    kiln.toml:7:6: a reference without an end: no `}` follows on this line
       at «${»
       help: for a literal `${`, as in a shell variable, write `$${`; `$NAME` needs no care
    "###);
}

#[test]
fn rings_are_named_once_each_with_every_link() {
    assert_snapshot!(named(r#"
[steps.a]
run = "x ${b}"
[steps.b]
run = "x ${c}"
[steps.c]
run = "x ${a} ${d}"
[steps.d]
run = "x ${d}"
[steps.e]
run = "x ${a}"
"#), @r###"
    kiln.toml:4:10: steps need each other: a → b → c → a: `a` reads `b`
       at «${b}»
       see kiln.toml:6:10: `b` reads `c` «${c}»
       see kiln.toml:8:10: `c` reads `a` «${a}»
       help: none of them could be the first: take one of these out
    kiln.toml:10:10: step `d` needs itself: `d` reads `d`
       at «${d}»
       help: `${out}` is where a step writes its own output
    "###);
}

#[test]
fn a_broken_step_does_not_make_its_users_wrong() {
    assert_snapshot!(named(r#"
[sources]
lost = "../x"
[params]
bad = {}
[steps.a]
builder = "trian"
lable = 3
[steps.b]
run = 3
outputs = ["x", ""]
[steps.c]
builder = "split"
data = "${sources.lost}"
ratios = 3
[steps.d]
[steps.e]
run = "x ${a.model} ${b.x} ${b.y} ${c.train} ${d} ${sources.lost} ${params.bad}"
"#), @r###"
    kiln.toml:4:8: the path "../x" cannot be used: it leaves the recipe's folder
       at «"../x"»
       help: paths are relative to the recipe and stay inside its folder
    kiln.toml:6:7: parameter `bad` has the wrong type: a parameter is a bool, a number, a text, or a list of one of these; found a table
       at «{}»
    kiln.toml:8:11: unknown builder `trian`: kiln has no builder of this name
       at «"trian"»
       help: did you mean `train`?
    kiln.toml:11:7: `run` has the wrong type: expected a text or a list of texts, found the number 3
       at «3»
    kiln.toml:12:17: "" cannot be the name of an output: it is empty
       at «""»
    kiln.toml:16:10: `ratios` has the wrong type or value: expected a table from names to values, at least one, each a number from 0 to 1, found the number 3
       at «3»
    kiln.toml:17:1: step `d` has neither `builder` nor `run`: it would do nothing
       at «[steps.d]»
       help: `run = "…"` runs a program; `builder = "…"` names a builder that kiln brings
    "###);
}

#[test]
fn a_misspelt_word_for_what_a_step_does_is_named() {
    assert_snapshot!(named(r#"
[steps.a]
rnu = "x > ${out}"
fiels = ["x"]
[steps.b]
bulider = "train"
epochs = 3
[steps.c]
command = "x > ${out}"
[steps.d]
builder = "command"
rum = "x"
[steps.e]
run = "cat ${a} > ${out}"
"#), @r###"
    kiln.toml:4:1: unknown key `rnu`: a step has no such key, and nothing else says what it does
       at «rnu»
       help: did you mean `run`?
    kiln.toml:5:1: unknown key `fiels`: a `command` step has no such key
       at «fiels»
       help: did you mean `files`?
    kiln.toml:7:1: unknown key `bulider`: a step has no such key, and nothing else says what it does
       at «bulider»
       help: did you mean `builder`?
    kiln.toml:10:1: unknown key `command`: a step has no such key, and nothing else says what it does
       at «command»
       help: did you mean `run`?
    kiln.toml:13:1: unknown key `rum`: a `command` step has no such key
       at «rum»
       help: did you mean `run`?
    "###);
}

#[test]
fn each_type_says_what_it_expects_and_what_it_found() {
    assert_snapshot!(named(r#"
[params]
word = "high"
list = [1, 2]
[sources]
d = "x"
[steps.s]
builder = "split"
data = "x.csv"
label = 3
ratios = {}
seed = -1
[steps.s2]
builder = "split"
data = ["${sources.d}"]
ratios = { "a b" = 0.5, test = 2, valid = "${params.list}" }
seed = 1.5
[steps.t]
builder = "train"
train = "x ${sources.d}"
label = "${sources.d}"
positive = "${out}"
ignore = ["a", 3, ["b"]]
model = { kind = "mpl", hidden = [1] }
epochs = "${params.word}"
rate = "fast"
loss = "lgo"
shuffle = "yes"
[steps.t2]
builder = "train"
train = "${sources.d}"
label = "a"
ignore = "id"
model = { kind = "mlp", hiden = [1], c = 1 }
rate = nan
loss = "${params.word}"
[steps.t3]
builder = "train"
train = "${sources.d}"
label = "a"
model = "mlp"
epochs = 99999999999999999999
[steps.t4]
builder = "train"
train = "${sources.d}"
label = "a"
model = { hidden = [1] }
ignore = "${params.list}"
[steps.q]
builder = "evaluate"
model = "${sources.d}"
gates = [
  { metric = "f2", min = 1.5 },
  { min = "x", max_drop = "2 percent" },
  3,
  { metric = "f1", max_drop = "-1%", least = 1 },
]
"#), @r###"
    kiln.toml:10:8: `data` has the wrong type or value: expected a reference to a file or folder, such as `"${sources.data}"`, found the text "x.csv"
       at «"x.csv"»
    kiln.toml:11:9: `label` has the wrong type or value: expected a text, found the number 3
       at «3»
    kiln.toml:12:10: `ratios` has the wrong type or value: expected a table from names to values, at least one, each a number from 0 to 1, found an empty table
       at «{}»
    kiln.toml:13:8: `seed` has the wrong type or value: expected a whole number, at least 0, found the number -1
       at «-1»
    kiln.toml:16:8: `data` has the wrong type or value: expected a reference to a file or folder, such as `"${sources.data}"`, found a list
       at «["${sources.d}"]»
    kiln.toml:17:12: "a b" cannot be a name in `ratios`: a name is letters, digits, `_` and `-`
       at «"a b"»
    kiln.toml:17:32: `ratios.test` has the wrong type or value: expected a number from 0 to 1, found the number 2
       at «2»
    kiln.toml:17:44: `ratios.valid` has the wrong type or value: expected a number from 0 to 1, found the list [1, 2]
       at «${params.list}»
       see kiln.toml:5:8: `params.list` has its value from here «[1, 2]»
    kiln.toml:18:8: `seed` has the wrong type or value: expected a whole number, at least 0, found the number 1.5
       at «1.5»
    kiln.toml:21:12: `train` has the wrong type or value: expected a reference to a file or folder, such as `"${sources.data}"`, found a reference inside other text
       at «${sources.d}»
    kiln.toml:22:10: `label` has the wrong type or value: expected a text, found a reference to a file or folder
       at «${sources.d}»
    kiln.toml:23:13: `${out}` has no meaning here: only `run` and `env` of a `command` step can name the step's own outputs
       at «${out}»
       help: a builder that kiln brings knows where to write
    kiln.toml:24:16: `ignore` has the wrong type or value: expected a text, found the number 3
       at «3»
    kiln.toml:24:19: `ignore` has the wrong type or value: expected a text, found a list
       at «["b"]»
    kiln.toml:25:18: `model.kind` cannot be "mpl": expected one of `logistic`, `mlp`
       at «"mpl"»
       help: did you mean `mlp`?
    kiln.toml:26:11: `epochs` has the wrong type or value: expected a whole number from 1 to 100000, found the text "high"
       at «${params.word}»
       see kiln.toml:4:8: `params.word` has its value from here «"high"»
    kiln.toml:27:8: `rate` has the wrong type or value: expected a number from 0 to 10, found the text "fast"
       at «"fast"»
    kiln.toml:28:8: `loss` has the wrong type or value: expected one of `log`, `hinge`, found the text "lgo"
       at «"lgo"»
       help: did you mean `log`?
    kiln.toml:29:11: `shuffle` has the wrong type or value: expected `true` or `false`, found the text "yes"
       at «"yes"»
    kiln.toml:34:10: `ignore` has the wrong type or value: expected a list, each item a text, found the text "id"
       at «"id"»
    kiln.toml:35:25: unknown key `hiden`: `model` of kind `mlp` has no such key
       at «hiden»
       help: did you mean `hidden`?
    kiln.toml:35:38: unknown key `c`: `model` of kind `mlp` has no such key
       at «c»
       help: its keys: `hidden`
    kiln.toml:36:8: `rate` has the wrong type or value: expected a number from 0 to 10, nan is not a number
       at «nan»
    kiln.toml:37:9: `loss` has the wrong type or value: expected one of `log`, `hinge`, found the text "high"
       at «${params.word}»
       see kiln.toml:4:8: `params.word` has its value from here «"high"»
    kiln.toml:42:9: `model` has the wrong type or value: expected a table with `kind`, one of `logistic`, `mlp`, and what that kind needs, found the text "mlp"
       at «"mlp"»
    kiln.toml:43:10: `epochs` has the wrong type or value: expected a whole number from 1 to 100000, the number does not fit into 64 bits
       at «99999999999999999999»
    kiln.toml:48:9: `model` has no `kind`: expected one of `logistic`, `mlp`
       at «{ hidden = [1] }»
    kiln.toml:49:11: `ignore` has the wrong type or value: expected a list, each item a text, found the list [1, 2]
       at «${params.list}»
       see kiln.toml:5:8: `params.list` has its value from here «[1, 2]»
    kiln.toml:50:1: builder `evaluate` lacks `test`: expected a reference to a file or folder, such as `"${sources.data}"`
       at «[steps.q]»
       note: `test`: Rows that training has not seen.
    kiln.toml:54:14: `gates.metric` has the wrong type or value: expected one of `f1`, `accuracy`, `log_loss`, found the text "f2"
       at «"f2"»
    kiln.toml:54:26: `gates.min` has the wrong type or value: expected a number from 0 to 1, found the number 1.5
       at «1.5»
    kiln.toml:55:3: `gates` lacks `gates.metric`: expected one of `f1`, `accuracy`, `log_loss`
       at «{ min = "x", max_drop = "2 percent" }»
       note: `metric`: What is measured.
    kiln.toml:55:11: `gates.min` has the wrong type or value: expected a number from 0 to 1, found the text "x"
       at «"x"»
    kiln.toml:55:27: `gates.max_drop` has the wrong type or value: expected a number, or a share such as `"2%"`, found the text "2 percent"
       at «"2 percent"»
    kiln.toml:56:3: `gates` has the wrong type or value: expected a table with `metric`, `min`, `max_drop`, `severity`, found the number 3
       at «3»
    kiln.toml:57:31: `gates.max_drop` has the wrong type or value: expected a number, or a share such as `"2%"`, found the text "-1%"
       at «"-1%"»
    kiln.toml:57:38: unknown key `least`: `gates` has no such key
       at «least»
       help: its keys: `metric`, `min`, `max_drop`, `severity`
    "###);
}

#[test]
fn what_may_be_absent_is_taken_only_where_that_is_allowed() {
    assert_snapshot!(named(r#"
[sources]
base = { deployment = "p", absent = "accept" }
sure = { deployment = "p" }
[steps.q]
builder = "evaluate"
model = "${sources.base}"
test = "${sources.sure}"
baseline = "${sources.base}"
[steps.p]
builder = "package"
model = "${q.model}"
evidence = ["${sources.base}"]
[steps.c]
run = "cmp ${sources.base} ${sources.sure}"
[deploy.p]
release = "${p}"
"#), @r###"
    kiln.toml:8:10: `sources.base` may be absent, but `model` must be there: its source says `absent = "accept"`
       at «${sources.base}»
       help: leave `absent` out of the source to make a missing one an error
    kiln.toml:14:14: `sources.base` may be absent, but `evidence` must be there: its source says `absent = "accept"`
       at «${sources.base}»
       help: leave `absent` out of the source to make a missing one an error
    kiln.toml:16:12: `sources.base` may be absent, but a program must have its inputs: its source says `absent = "accept"`
       at «${sources.base}»
       help: leave `absent` out of the source to make a missing one an error
    "###);
}

#[test]
fn outputs_tools_and_files_are_named_once() {
    assert_snapshot!(named(r#"
[steps.a]
run = "x"
outputs = ["a", "b", "a"]
tools = ["sh", "sh", "/bin/sh", "", 3, "${params.x}"]
pass_env = ["TOKEN", "1X", "TOKEN"]
env = { TOKEN = "x", "A-B" = "y", LIST = [1] }
[steps.b]
run = "x"
outputs = { a = "same", b = "same", c = "x/y", d = "..", e = 3 }
[steps.c]
run = []
outputs = []
[steps.d]
run = " "
network = "yes"
[steps.e]
run = ["x", 3]
network = true
determinism = "bitwise"
"#), @r###"
    kiln.toml:5:22: the output `a` is declared twice: again here
       at «"a"»
       see kiln.toml:5:12: first here «"a"»
    kiln.toml:6:16: `tools` names `sh` twice: again here
       at «"sh"»
       see kiln.toml:6:10: first here «"sh"»
    kiln.toml:6:22: "/bin/sh" cannot be the name of a tool: it has a `/`: a tool is named, and found in PATH
       at «"/bin/sh"»
    kiln.toml:6:33: "" cannot be the name of a tool: it is empty
       at «""»
    kiln.toml:6:37: `tools` has the wrong type: expected a text, found the number 3
       at «3»
    kiln.toml:6:40: a reference in "${params.x}": no reference can stand here
       at «"${params.x}"»
       help: references can stand in `run`, in values of `env` and in builders' arguments
    kiln.toml:7:22: "1X" cannot be the name of a variable: it is no variable's name: letters, digits and `_`, not beginning with a digit
       at «"1X"»
    kiln.toml:7:28: `pass_env` names `TOKEN` twice: again here
       at «"TOKEN"»
       see kiln.toml:7:13: first here «"TOKEN"»
    kiln.toml:8:17: `TOKEN` is set and passed on: it has a value here
       at «"x"»
       help: leave it out of `env` or out of `pass_env`
    kiln.toml:8:22: "A-B" cannot be the name of a variable: it is no variable's name: letters, digits and `_`, not beginning with a digit
       at «"A-B"»
    kiln.toml:8:42: `env.LIST` has the wrong type: expected a text, a number or a bool, found a list
       at «[1]»
    kiln.toml:11:29: two outputs are the file "same": again here
       at «"same"»
       see kiln.toml:11:17: first here «"same"»
    kiln.toml:11:41: "x/y" cannot be the name of an output's file: it has a `/`: an output is one file or folder
       at «"x/y"»
    kiln.toml:11:52: ".." cannot be the name of an output's file: it is a folder's name for itself or for its parent
       at «".."»
    kiln.toml:11:62: `e` has the wrong type: expected a text, found the number 3
       at «3»
    kiln.toml:13:7: `run` is empty: a list holds a program and its arguments
       at «[]»
    kiln.toml:14:11: `outputs` is empty: a step makes something
       at «[]»
       help: leave `outputs` out for one output, called `out`
    kiln.toml:16:7: `run` is empty: there is nothing to run
       at «" "»
    kiln.toml:17:11: `network` has the wrong type: expected `true` or `false`, found the text "yes"
       at «"yes"»
    kiln.toml:19:13: `run` has the wrong type: expected a text, found the number 3
       at «3»
    kiln.toml:21:15: step `e` uses the network and claims to be bitwise: what the network answers can change from run to run
       at «"bitwise"»
       help: write `determinism = "none"`, or leave it out
    "###);
}

#[test]
fn amounts_are_read_or_refused_with_the_reason() {
    assert_snapshot!(named(r#"
[steps.a]
run = "x"
cpus = 0
memory = "5 apples"
timeout = "1m1h"
determinism = "tolerance"
[steps.b]
run = "x"
cpus = "2"
memory = 512
timeout = 0
determinism = "bitwize"
[steps.c]
run = "x"
memory = [1]
timeout = 1.5
retries = -1
[steps.d]
run = "x"
retries = "often"
gpus = 1.5
"#), @r###"
    kiln.toml:5:8: `cpus` is out of range: expected a whole number from 1 to 65536, found 0
       at «0»
    kiln.toml:6:10: `memory` cannot be read: `apples` is not a unit of memory
       at «"5 apples"»
       help: expected a size such as `"512MiB"` or `"2GB"`, or bytes
    kiln.toml:7:11: `timeout` cannot be read: units go from large to small, each once
       at «"1m1h"»
       help: expected a time such as `"90s"` or `"1h30m"`, or seconds
    kiln.toml:8:15: step `a` does not say its tolerance: how far may numbers lie apart?
       at «"tolerance"»
       help: write `tolerance = { absolute = 1e-6, relative = 1e-4 }`, one or both
    kiln.toml:11:8: `cpus` has the wrong type: expected a whole number from 1, found the text "2"
       at «"2"»
    kiln.toml:12:10: `memory` cannot be read: 512 bytes are too few for any program: at least 1MiB
       at «512»
       help: expected a size such as `"512MiB"` or `"2GB"`, or bytes
    kiln.toml:13:11: `timeout` cannot be read: no step is done in 0 seconds
       at «0»
       help: expected a time such as `"90s"` or `"1h30m"`, or seconds
    kiln.toml:14:15: `determinism` cannot be "bitwize": expected one of `bitwise`, `tolerance`, `none`
       at «"bitwize"»
       help: did you mean `bitwise`?
    kiln.toml:17:10: `memory` has the wrong type: expected a size such as `"512MiB"` or `"2GB"`, or bytes, found a list
       at «[1]»
    kiln.toml:18:11: `timeout` has the wrong type: expected a time such as `"90s"` or `"1h30m"`, or seconds, found the number 1.5
       at «1.5»
    kiln.toml:19:11: `retries` is out of range: expected a whole number from 0 to 100, found -1
       at «-1»
    kiln.toml:22:11: `retries` has the wrong type: expected a whole number from 0, found the text "often"
       at «"often"»
    kiln.toml:23:8: `gpus` has the wrong type: expected a whole number from 0, found the number 1.5
       at «1.5»
    "###);
}

#[test]
fn a_tolerance_stands_where_it_means_something_and_is_a_bound() {
    assert_snapshot!(named(r#"
[steps.a]
run = "x"
determinism = "tolerance"
tolerance = { absolut = 1, relative = -1 }
[steps.b]
run = "x"
tolerance = { absolute = "x" }
[steps.c]
run = "x"
determinism = "tolerance"
tolerance = {}
[steps.d]
run = "x"
determinism = "none"
tolerance = 1e-6
[steps.e]
run = "x"
network = true
determinism = "tolerance"
tolerance = { relative = inf }
"#), @r###"
    kiln.toml:6:15: unknown key `absolut`: a tolerance has no such key
       at «absolut»
       help: did you mean `absolute`?
    kiln.toml:6:39: `relative` is out of range: expected a finite number from 0, found -1
       at «-1»
    kiln.toml:9:1: step `b` has a tolerance that means nothing: it promises the same bytes, or nothing
       at «tolerance»
       help: write `determinism = "tolerance"`, or leave the bound out
    kiln.toml:9:26: `absolute` has the wrong type: expected a number from 0, found the text "x"
       at «"x"»
    kiln.toml:13:13: `tolerance` is empty: expected a table such as `{ absolute = 1e-6, relative = 1e-4 }`, with one of them or both
       at «{}»
    kiln.toml:17:1: step `d` has a tolerance that means nothing: it promises the same bytes, or nothing
       at «tolerance»
       help: write `determinism = "tolerance"`, or leave the bound out
    kiln.toml:17:13: `tolerance` has the wrong type: expected a table such as `{ absolute = 1e-6, relative = 1e-4 }`, found the number 1e-6
       at «1e-6»
    kiln.toml:21:15: step `e` uses the network and claims to be near to itself: what the network answers can change from run to run
       at «"tolerance"»
       help: write `determinism = "none"`, or leave it out
    kiln.toml:22:26: `relative` is out of range: expected a finite number from 0, found inf
       at «inf»
    "###);
}

#[test]
fn a_parameter_that_the_shell_could_misread_is_refused_with_the_ways_out() {
    assert_snapshot!(named(r#"
[params]
query = "a b; rm -rf /"
empty = ""
list = [1, 2]
fine = "v1.2-x/y:z=1,2+3@4%5"
[steps.a]
run = "x ${params.fine} '${params.query}' ${params.empty} ${params.list} > ${out.x}"
outputs = { x = "my file" }
[steps.b]
run = ["x", "${params.query}", "${params.empty}", "${params.list}", "${out.x}"]
outputs = { x = "my file" }
env = { Q = "${params.query}", L = "${params.list}" }
"#), @r###"
    kiln.toml:9:26: `params.query` cannot stand in a text for the shell: it has the character ' '
       at «${params.query}»
       see kiln.toml:4:9: it has its value from here «"a b; rm -rf /"»
       note: allowed are letters, digits and `_./:=,+@%-`
       help: write `run` as a list, `["program", "${params.query}"]`, which no shell reads
       help: or set a variable, `env = { VALUE = "${params.query}" }`, and use `"$VALUE"`
    kiln.toml:9:43: `params.empty` cannot stand in a text for the shell: it is empty, and would vanish
       at «${params.empty}»
       see kiln.toml:5:9: it has its value from here «""»
       note: allowed are letters, digits and `_./:=,+@%-`
       help: write `run` as a list, `["program", "${params.empty}"]`, which no shell reads
       help: or set a variable, `env = { VALUE = "${params.empty}" }`, and use `"$VALUE"`
    kiln.toml:9:59: `params.list` cannot stand in a text for the shell: it is the list [1, 2]
       at «${params.list}»
       see kiln.toml:6:8: it has its value from here «[1, 2]»
       note: allowed are letters, digits and `_./:=,+@%-`
       help: write `run` as a list, `["program", "${params.list}"]`, which no shell reads
       help: or set a variable, `env = { VALUE = "${params.list}" }`, and use `"$VALUE"`
    kiln.toml:9:76: the file name "my file" cannot stand in a text for the shell: it has the character ' '
       at «${out.x}»
       help: choose another file name, or write `run` as a list
    "###);
}

#[test]
fn several_problems_are_reported_at_once_in_the_order_of_the_file() {
    let broken = TUMOUR
        .replace("hidden = [64, 32]", "hidden = [64.5]")
        .replace("${sources.checks}", "${sources.check}")
        .replace("seed    = 7", "sed = 7")
        .replace("${split.valid}", "${split.validation}")
        .replace("\"2%\"", "\"two\"")
        .replace("after    = \"staging\"", "after    = \"stagin\"");
    assert_snapshot!(problems(&broken), @r###"
    kiln.toml:18:12: unknown source `check`: the recipe has no source of this name
       at «${sources.check}»
       help: did you mean `checks`?
    kiln.toml:25:1: unknown key `sed`: builder `split` has no such key
       at «sed»
       help: did you mean `seed`?
    kiln.toml:30:12: step `split` has no output `validation`: no such output
       at «${split.validation}»
       help: its outputs: `test`, `train`, `valid`
    kiln.toml:34:37: `model.hidden` has the wrong type or value: expected a list, each item a whole number from 1 to 4096, found the list [64.5]
       at «${params.hidden}»
       see kiln.toml:7:10: `params.hidden` has its value from here «[64.5]»
    kiln.toml:44:31: `gates.max_drop` has the wrong type or value: expected a number, or a share such as `"2%"`, found the text "two"
       at «"two"»
    kiln.toml:60:12: unknown deployment `stagin`: the recipe has no `[deploy.stagin]`
       at «"stagin"»
       help: did you mean `staging`?
    "###);
}

#[test]
fn a_missing_argument_is_missed_at_the_step() {
    assert_snapshot!(named("steps.a.builder = \"validate\"\n[steps.b]\nbuilder = \"command\""), @r###"
    kiln.toml:2:7: builder `validate` lacks `data`: expected a reference to a file or folder, such as `"${sources.data}"`
       at «a»
       note: `data`: A table.
    kiln.toml:2:7: builder `validate` lacks `suite`: expected a reference to a file or folder, such as `"${sources.data}"`
       at «a»
       note: `suite`: What must hold of it.
    kiln.toml:3:1: step `b` has no `run`: a `command` step must say what to run
       at «[steps.b]»
       help: `run = "…"` for the shell, `run = ["program", "argument"]` without one
    "###);
}
