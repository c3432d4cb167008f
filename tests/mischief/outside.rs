//! Steps that write where they have no business, or to what they were given to read.

use std::fs;

use crate::harness::Project;

const RECIPE: &str = r#"
name = "outside"

[sources]
words = "words.txt"
folder = "folder"

[steps.first]
run = "mkdir ${out}; echo first > ${out}/file"

[steps.write]
run = '''
try() { if sh -c "$1" 2> /dev/null; then echo "$1"; fi; }
f=${sources.words}; d=${sources.folder}; u=${first}
{
    try "touch /x"
    try "touch /usr/x"
    try "touch /etc/x"
    try "touch /build/x"
    try "touch /build/in/x"
    try "touch /proc/self/root/usr/x"
    try "touch /proc/1/root/usr/x"
    try "echo x > /proc/sys/kernel/hostname"
    try "chmod u+w $f && echo x >> $f"
    try "echo x > $f"
    try "truncate -s 0 $f"
    try "rm -f $f"
    try "mv $f $f.moved"
    try "chmod -R u+w $d && echo x >> $d/a.txt"
    try "touch $d/new"
    try "rm -rf $d/a.txt"
    try "chmod -R u+w $u && echo x >> $u/file"
    try "touch $u/new"
    try "ln $f hard && echo x >> hard"
    try "mount -o remount,rw /usr"
    try "mount --bind /tmp /usr"
    try "umount $f"
    try "exec 3<> $f && echo x >&3"
} > ${out}
'''

[steps.read]
run = "cat ${sources.words} ${sources.folder}/a.txt ${first}/file > ${out}; : ${write}"
"#;

fn project() -> Project {
    let project = Project::new(RECIPE);
    project.write("words.txt", "words\n");
    project.write("folder/a.txt", "a\n");
    project
}

/// In the sandbox none of it succeeds; what does without one, does to copies.
#[test]
fn nothing_that_a_step_was_given_changes_and_nothing_else_can_be_written() {
    for sandbox in ["full", "off"] {
        let project = project();
        if sandbox == "off" {
            // Without a sandbox the machine's own folders are open to root, and not a test's business.
            for place in ["/x", "/usr/x", "/etc/x", "/build/x", "/build/in/x"] {
                project.edit("kiln.toml", &format!("    try \"touch {place}\"\n"), "");
            }
            for act in [
                "touch /proc/self/root/usr/x",
                "touch /proc/1/root/usr/x",
                "echo x > /proc/sys/kernel/hostname",
                "mount -o remount,rw /usr",
                "mount --bind /tmp /usr",
            ] {
                project.edit("kiln.toml", &format!("    try \"{act}\"\n"), "");
            }
        }
        let build = project.build(&["--sandbox", sandbox, "--link", "all"]).exits(0);
        let done = project.read("result/write");
        if build.step("write")["isolation"] == "full" {
            assert_eq!(done, "", "these acts succeeded");
        }
        if sandbox == "off" {
            assert!(done.contains("echo x >> "), "the acts are such that they could: {done}");
        }
        assert_eq!(project.read("result/read"), "words\na\nfirst\n", "{sandbox}");
        assert_eq!(project.read("words.txt"), "words\n", "{sandbox}");
        assert_eq!(project.read("folder/a.txt"), "a\n", "{sandbox}");
        let listed = fs::read_dir(project.dir().join("folder")).unwrap().count();
        assert_eq!(listed, 1, "{sandbox}");
        project.kiln(&["store", "verify"]).exits(0);
    }
}
