//! What is said about the file as a whole: syntax, top, parameters, sources, deployments.

use insta::assert_snapshot;

use super::{builders::TUMOUR, named, problems, problems_with};

#[test]
fn every_syntax_error_is_reported_at_its_place() {
    assert_snapshot!(problems("name = \"a\ndescription = \"ok\"\nsalt == 3\n[steps.a\nrun = \"x\"\n"), @r###"
    kiln.toml:1:10: the recipe is not valid TOML: invalid basic string, expected `"`
       at «»
    kiln.toml:3:7: the recipe is not valid TOML: extra `=`, expected nothing
       at «=»
    kiln.toml:4:9: the recipe is not valid TOML: unclosed table, expected `]`
       at «»
    "###);
    assert_snapshot!(problems("name = \"a\"\nname = \"b\"\n[steps.x]\nrun = \"x\"\n[steps.x]\nrun = \"y\"\n"), @r###"
    kiln.toml:2:1: `name` is defined twice: again here
       at «name»
       help: rename one of the two, or put them together
    kiln.toml:5:8: `x` is defined twice: again here
       at «x»
       help: rename one of the two, or put them together
    "###);
}

#[test]
fn unknown_keys_at_every_level_are_reported_with_near_names() {
    assert_snapshot!(problems(r#"
nmae = "t"
[triggers]
push = ["x"]
[sources]
a = { pth = "x" }
[steps.s]
run = "true"
output = ["x"]
gpu = 1
[steps.v]
builder = "validate"
data = "${sources.a}"
suite = "${sources.a}"
retires = 3
files = ["x"]
dta = 1
[deploy.p]
release = "${s}"
strategy = "canary"
"#), @r###"
    kiln.toml:2:1: unknown key `nmae`: a recipe has no such key
       at «nmae»
       help: did you mean `name`?
    kiln.toml:3:2: unknown key `triggers`: a recipe has no such key
       at «triggers»
       help: a recipe's keys: `name`, `description`, `salt`, `params`, `sources`, `steps`, `deploy`
    kiln.toml:6:7: unknown key `pth`: a source has no such key
       at «pth»
       help: did you mean `path`?
    kiln.toml:9:1: unknown key `output`: a `command` step has no such key
       at «output»
       help: did you mean `outputs`?
    kiln.toml:10:1: unknown key `gpu`: a `command` step has no such key
       at «gpu»
       help: did you mean `gpus`?
    kiln.toml:15:1: unknown key `retires`: builder `validate` has no such key
       at «retires»
       help: did you mean `retries`?
    kiln.toml:16:1: unknown key `files`: builder `validate` has no such key
       at «files»
       note: `files` is for steps that run a program, without `builder`
       help: its keys: `data`, `suite`, `builder`, `description`, `cpus`, `gpus`, `memory`, `timeout`, `retries`, `determinism`, `tolerance`
    kiln.toml:17:1: unknown key `dta`: builder `validate` has no such key
       at «dta»
       help: did you mean `data`?
    kiln.toml:20:1: unknown key `strategy`: a deployment has no such key
       at «strategy»
       help: a deployment's keys: `release`, `after`
    "###);
}

#[test]
fn names_are_held_to_their_rule() {
    assert_snapshot!(problems(r#"
name = "-t"
[params]
"a b" = 1
[sources]
"1" = "x"
[steps.out]
run = "x"
[steps."a.b"]
run = "x"
[steps.c]
run = "x"
outputs = ["a b", "ok", "../x"]
[deploy.""]
release = "${c.ok}"
"#), @r###"
    kiln.toml:2:8: `-t` cannot be the name of a recipe: a name is letters, digits, `_`, `.` and `-`, and begins with a letter or digit
       at «"-t"»
    kiln.toml:4:1: `a b` cannot be the name of a parameter: a name is letters, digits, `_` and `-`, and does not begin with a digit or `-`
       at «"a b"»
    kiln.toml:6:1: `1` cannot be the name of a source: a name is letters, digits, `_` and `-`, and does not begin with a digit or `-`
       at «"1"»
    kiln.toml:7:8: `out` cannot be the name of a step: the name is reserved
       at «out»
       note: reserved are `sources`, `params`, `out`, `in`, `env`
       help: choose another name
    kiln.toml:9:8: `a.b` cannot be the name of a step: a name is letters, digits, `_` and `-`, and does not begin with a digit or `-`
       at «"a.b"»
    kiln.toml:13:12: "a b" cannot be the name of an output: a name is letters, digits, `_` and `-`
       at «"a b"»
    kiln.toml:13:25: "../x" cannot be the name of an output: a name is letters, digits, `_` and `-`
       at «"../x"»
    kiln.toml:14:9: `` cannot be the name of a deployment: it is empty
       at «""»
    "###);
}

#[test]
fn sections_must_be_tables_and_texts_texts() {
    assert_snapshot!(problems(r#"
name = 3
salt = true
params = [1]
sources = "x"
steps.a = "make"
deploy.p = 1979-05-27
"#), @r###"
    kiln.toml:2:8: `name` has the wrong type: expected a text, found the number 3
       at «3»
    kiln.toml:3:8: `salt` has the wrong type: expected a text, found `true`
       at «true»
    kiln.toml:4:10: `params` has the wrong type: expected a table, found a list
       at «[1]»
    kiln.toml:5:11: `sources` has the wrong type: expected a table, found the text "x"
       at «"x"»
    kiln.toml:6:11: `a` has the wrong type: expected a step, which is a table, found the text "make"
       at «"make"»
       help: write `[steps.a]`, and `run = "…"` below it
    kiln.toml:7:12: `p` has the wrong type: expected a deployment, which is a table, found a date or time
       at «1979-05-27»
    "###);
}

#[test]
fn paths_that_leave_the_recipe_are_refused() {
    assert_snapshot!(named(r#"
[sources]
a = "../x.csv"
b = "/etc/passwd"
c = "~/x"
d = ""
e = "."
f = 'a\b'
g = "data/../../x"
h = "{a,..}/*.csv"
i = "data/[a"
j = { path = "*.csv" }
k = "https://example.org/x.csv"
l = "${params.x}"
m = { path = "x", glob = "y" }
n = { glob = "y", absent = "accept" }
[steps.s]
run = "x"
files = ["ok.py", "../up.py", "./ok.py", 3]
"#), @r###"
    kiln.toml:4:5: the path "../x.csv" cannot be used: it leaves the recipe's folder
       at «"../x.csv"»
       help: paths are relative to the recipe and stay inside its folder
    kiln.toml:5:5: the path "/etc/passwd" cannot be used: it leaves the recipe's folder
       at «"/etc/passwd"»
       help: paths are relative to the recipe and stay inside its folder
    kiln.toml:6:5: the path "~/x" cannot be used: it leaves the recipe's folder
       at «"~/x"»
       help: paths are relative to the recipe and stay inside its folder
    kiln.toml:7:5: the path "" cannot be used: it is empty
       at «""»
       help: paths are relative to the recipe and stay inside its folder
    kiln.toml:8:5: the path "." cannot be used: it is the recipe's folder itself, which holds results too
       at «"."»
       help: paths are relative to the recipe and stay inside its folder
    kiln.toml:9:5: the path "a\\b" cannot be used: it has a backslash: folders are separated by `/`
       at «'a\b'»
       help: paths are relative to the recipe and stay inside its folder
    kiln.toml:10:5: the path "data/../../x" cannot be used: it leaves the recipe's folder
       at «"data/../../x"»
       help: paths are relative to the recipe and stay inside its folder
    kiln.toml:11:5: the path "{a,..}/*.csv" cannot be used: it leaves the recipe's folder
       at «"{a,..}/*.csv"»
       help: paths are relative to the recipe and stay inside its folder
    kiln.toml:12:5: the path "data/[a" cannot be used: it is no pattern: unclosed character class; missing ']'
       at «"data/[a"»
       help: in a pattern `*`, `?`, `[` and `{` have a meaning; `{ path = "…" }` takes them as they are
    kiln.toml:14:5: the path "https://example.org/x.csv" cannot be used: it is an address, not a path inside the recipe's folder
       at «"https://example.org/x.csv"»
       help: paths are relative to the recipe and stay inside its folder
    kiln.toml:15:5: a reference in "${params.x}": no reference can stand here
       at «"${params.x}"»
       help: references can stand in `run`, in values of `env` and in builders' arguments
    kiln.toml:16:5: source `m` must have one of `path`, `glob` and `deployment`: it has more than one
       at «{ path = "x", glob = "y" }»
    kiln.toml:17:19: `absent` is only for sources with `deployment`: this one has `glob`
       at «absent»
    kiln.toml:20:19: the path "../up.py" cannot be used: it leaves the recipe's folder
       at «"../up.py"»
       help: paths are relative to the recipe and stay inside its folder
    kiln.toml:20:31: `files` names "ok.py" twice: again here
       at «"./ok.py"»
       see kiln.toml:20:10: first here «"ok.py"»
    kiln.toml:20:42: `files` has the wrong type: expected a text, found the number 3
       at «3»
    "###);
}

#[test]
fn deployments_must_be_there_and_their_order_free_of_rings() {
    assert_snapshot!(named(r#"
[sources]
base = { deployment = "prodution", absent = "accept" }
odd = { deployment = "production", output = "../x", absent = "ignore" }
[steps.r]
run = "x"
[deploy.production]
release = "${r}"
after = "staging"
[deploy.staging]
release = "${r}"
after = "production"
[deploy.a]
release = "${r}"
after = "b"
[deploy.c]
after = "c"
[deploy.d]
release = "${sources.base}"
[deploy.e]
release = "r"
[deploy.f]
release = "${sources.odd} "
"#), @r###"
    kiln.toml:4:23: unknown deployment `prodution`: the recipe has no `[deploy.prodution]`
       at «"prodution"»
       help: did you mean `production`?
    kiln.toml:5:45: the path "../x" cannot be used: it leaves the release
       at «"../x"»
    kiln.toml:5:62: `absent` cannot be "ignore": expected one of `error`, `accept`
       at «"ignore"»
    kiln.toml:10:9: deployments need each other: production → staging → production: `production` comes after `staging`
       at «"staging"»
       see kiln.toml:13:9: `staging` comes after `production` «"production"»
       help: none of them could be the first: take one of these out
    kiln.toml:16:9: unknown deployment `b`: the recipe has no `[deploy.b]`
       at «"b"»
       help: its deployments: `c`, `d`, `e`, `f`, `production`, `staging`
    kiln.toml:17:1: deployment `c` has no `release`: it must be there
       at «[deploy.c]»
       help: name the step output to deploy: `release = "${…}"`
    kiln.toml:18:9: deployment `c` needs itself: `c` comes after `c`
       at «"c"»
    kiln.toml:20:11: `release` has the wrong type: expected a reference to a step's output, found a source
       at «"${sources.base}"»
       help: write `release = "${STEP}"` or `release = "${STEP.OUTPUT}"`
    kiln.toml:22:11: `release` has the wrong type: expected a reference to a step's output, found a text
       at «"r"»
       help: write `release = "${STEP}"` or `release = "${STEP.OUTPUT}"`
    kiln.toml:24:11: `release` has the wrong type: expected a reference to a step's output, found a text
       at «"${sources.odd} "»
       help: write `release = "${STEP}"` or `release = "${STEP.OUTPUT}"`
    "###);
}

#[test]
fn parameters_are_plain_values_of_one_type() {
    assert_snapshot!(named(r#"
[params]
a = { x = 1 }
b = [1, "x"]
c = [[1]]
d = 1979-05-27
e = nan
f = "${params.a}"
g = 99999999999999999999
[steps.s]
run = "echo ${params.a} ${params.b}"
"#), @r###"
    kiln.toml:4:5: parameter `a` has the wrong type: a parameter is a bool, a number, a text, or a list of one of these; found a table
       at «{ x = 1 }»
    kiln.toml:5:9: parameter `b` has the wrong type: the list began with a whole number, found the text "x"
       at «"x"»
    kiln.toml:6:6: parameter `c` has the wrong type: a list in a list is not supported
       at «[1]»
    kiln.toml:7:5: parameter `d` has the wrong type: a parameter is a bool, a number, a text, or a list of one of these; found a date or time (write it as text, in quotes)
       at «1979-05-27»
    kiln.toml:8:5: parameter `e` has the wrong type: nan is not a number
       at «nan»
    kiln.toml:9:5: parameter `f` has a reference in it: parameters are plain values
       at «"${params.a}"»
       help: put the pieces together where they are used
    kiln.toml:10:5: parameter `g` has the wrong type: the number does not fit into 64 bits
       at «99999999999999999999»
    "###);
}

#[test]
fn set_names_a_parameter_and_keeps_its_type() {
    let set = [
        ("epohcs", "3"),
        ("epochs", "many"),
        ("epochs", "1.5"),
        ("hidden", "64"),
        ("hidden", "[1, \"x\"]"),
        ("min_f1", "true"),
    ];
    assert_snapshot!(problems_with(TUMOUR, &set), @r###"
    --set names the unknown parameter `epohcs`
       help: did you mean `epochs`?
    kiln.toml:6:10: --set epochs=many has the wrong type: its default, the number 60, gives the type
       at «60»
       note: expected a whole number, found `many`
       help: give it a whole number
    kiln.toml:6:10: --set epochs=1.5 has the wrong type: its default, the number 60, gives the type
       at «60»
       note: expected a whole number, found `1.5`
       help: give it a whole number
    kiln.toml:7:10: --set hidden=64 has the wrong type: its default, the list [64, 32], gives the type
       at «[64, 32]»
       note: expected a list of whole numbers, such as `[1, 2]`, found `64`
       help: give it a list of whole numbers, such as `[1, 2]`
    kiln.toml:7:10: --set hidden=[1, "x"] has the wrong type: its default, the list [64, 32], gives the type
       at «[64, 32]»
       note: expected a list of whole numbers, such as `[1, 2]`, found `[1, "x"]`
       help: give it a list of whole numbers, such as `[1, 2]`
    kiln.toml:8:10: --set min_f1=true has the wrong type: its default, the number 0.92, gives the type
       at «0.92»
       note: expected a number, found `true`
       help: give it a number
    "###);
    assert_snapshot!(problems_with("name = \"t\"", &[("x", "1")]), @r###"
    --set names the unknown parameter `x`
       help: this recipe has no [params]
    "###);
}

#[test]
fn a_set_value_that_does_not_fit_its_use_names_both_places() {
    assert_snapshot!(problems_with(TUMOUR, &[("epochs", "0"), ("hidden", "[0]")]), @r###"
    kiln.toml:34:37: `model.hidden` has the wrong type or value: expected a list, each item a whole number from 1 to 4096, found the list [0]
       at «${params.hidden}»
       see kiln.toml:7:10: `params.hidden` is set by --set; its default stands here «[64, 32]»
    kiln.toml:35:12: `epochs` has the wrong type or value: expected a whole number from 1 to 100000, found the number 0
       at «${params.epochs}»
       see kiln.toml:6:10: `params.epochs` is set by --set; its default stands here «60»
    "###);
}

#[test]
fn a_name_that_is_too_long_is_said_to_be() {
    let long = "x".repeat(129);
    let recipe = format!(
        "name = \"{long}\"\n[steps.{long}]\nrun = \"x\"\noutputs = [\"{long}\"]\n\
         [steps.s]\nbuilder = \"split\"\ndata = \"${{sources.{long}}}\"\nratios = {{ {long} = 1 }}\n\
         [sources]\n{long} = \"d\"\n"
    );
    let said = problems(&recipe);
    let count = said.matches("it is too long: 129 characters, more than 128").count();
    assert_eq!(count, 5, "{said}");
}

#[test]
fn a_deployment_is_not_told_to_come_after_itself() {
    let said = named(
        "[steps.r]\nrun = \"x ${out}\"\n[deploy.canary]\nrelease = \"${r}\"\nafter = \"canari\"\n",
    );
    assert!(said.contains("unknown deployment `canari`"), "{said}");
    assert!(!said.contains("help:"), "{said}");
}
