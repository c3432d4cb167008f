//! The filter of system calls, as a program for the kernel's packet filter.
//!
//! It refuses what no builder needs and what would lead out: mounts, new namespaces, tracing of strangers, kernel
//! keys and modules, terminals' input queues, exotic sockets. Everything else is allowed: a filter is the second layer,
//! namespaces are the first. Set-user-id bits pass: no mount of a step heeds them, and the store takes them off. It is
//! written out here, since a list of numbers compiled by a library lets the x32 calls of x86-64 pass.

use std::io;

use libc::{c_long, sock_filter};

use super::kernel;

/// What the filter has to make up for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Policy {
    /// The step has process ids of its own, so that it can trace only itself.
    pub(super) own_pids: bool,
    /// The step has a network of its own, or may use the host's.
    pub(super) network_settled: bool,
}

/// A refusal: this call fails with this error; if there are flags, only where its first argument has one of them.
struct Refusal {
    call: c_long,
    flags: Option<u32>,
    errno: i32,
}

const NEW_NAMESPACE: u32 = (libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP) as u32;
/// `CLONE_NEWTIME` shares its bit with the exit signal of `clone`, and is a flag of `unshare` alone.
const NEW_TIME: u32 = 0x80;
/// `mount` family's youngest member, not in libc yet.
const OPEN_TREE_ATTR: c_long = 467;

fn refusals(policy: Policy) -> Vec<Refusal> {
    let mut all = Vec::new();
    let mut refuse = |calls: &[c_long], errno: i32| {
        all.extend(calls.iter().map(|&call| Refusal { call, flags: None, errno }));
    };
    refuse(
        &[
            libc::SYS_mount,
            libc::SYS_umount2,
            libc::SYS_pivot_root,
            libc::SYS_chroot,
            libc::SYS_move_mount,
            libc::SYS_open_tree,
            OPEN_TREE_ATTR,
            libc::SYS_fsopen,
            libc::SYS_fsconfig,
            libc::SYS_fsmount,
            libc::SYS_fspick,
            libc::SYS_mount_setattr,
            libc::SYS_setns,
            libc::SYS_keyctl,
            libc::SYS_add_key,
            libc::SYS_request_key,
            libc::SYS_bpf,
            libc::SYS_perf_event_open,
            libc::SYS_userfaultfd,
            libc::SYS_kexec_load,
            libc::SYS_kexec_file_load,
            libc::SYS_init_module,
            libc::SYS_finit_module,
            libc::SYS_delete_module,
            libc::SYS_reboot,
            libc::SYS_swapon,
            libc::SYS_swapoff,
            libc::SYS_acct,
            libc::SYS_quotactl,
            libc::SYS_syslog,
            libc::SYS_open_by_handle_at,
            libc::SYS_settimeofday,
            libc::SYS_clock_settime,
            libc::SYS_sethostname,
            libc::SYS_setdomainname,
            libc::SYS_vhangup,
            libc::SYS_pidfd_getfd,
            libc::SYS_kcmp,
            #[cfg(target_arch = "x86_64")]
            libc::SYS_iopl,
            #[cfg(target_arch = "x86_64")]
            libc::SYS_ioperm,
        ],
        libc::EPERM,
    );
    // Their flags lie behind a pointer that a filter cannot follow, or (io_uring) they do what the filter refuses
    // elsewhere. Programs fall back to the older calls when these do not exist.
    refuse(
        &[
            libc::SYS_clone3,
            libc::SYS_openat2,
            libc::SYS_io_uring_setup,
            libc::SYS_io_uring_enter,
            libc::SYS_io_uring_register,
        ],
        libc::ENOSYS,
    );
    if !policy.own_pids {
        refuse(
            &[libc::SYS_ptrace, libc::SYS_process_vm_readv, libc::SYS_process_vm_writev],
            libc::EPERM,
        );
    }
    for (call, flags) in
        [(libc::SYS_unshare, NEW_NAMESPACE | NEW_TIME), (libc::SYS_clone, NEW_NAMESPACE)]
    {
        all.push(Refusal { call, flags: Some(flags), errno: libc::EPERM });
    }
    all
}

/// Offsets in the kernel's `seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;

fn low_word_of_argument(index: u32) -> u32 {
    16 + 8 * index
}

#[cfg(target_arch = "x86_64")]
const NATIVE: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const NATIVE: u32 = 0xC000_00B7;

/// Every x32 call has this bit.
const X32: u32 = 0x4000_0000;

const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const IF_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const IF_AT_LEAST: u32 = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K;
const IF_BITS: u32 = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;
const JUMP: u32 = libc::BPF_JMP | libc::BPF_JA;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;

fn say(code: u32, value: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: 0, jf: 0, k: value }
}

/// Goes on with the next instruction if the test holds, and skips `otherwise` instructions if not.
fn test(code: u32, value: u32, otherwise: u8) -> sock_filter {
    sock_filter { code: code as u16, jt: 0, jf: otherwise, k: value }
}

fn fail(errno: i32) -> sock_filter {
    say(RETURN, libc::SECCOMP_RET_ERRNO | errno as u32)
}

/// What is done about one call: instructions that end the program.
type Answer = Vec<sock_filter>;

fn allow() -> sock_filter {
    say(RETURN, libc::SECCOMP_RET_ALLOW)
}

/// The calls that do not simply pass, each once, by number.
fn answers(policy: Policy) -> Vec<(u32, Answer)> {
    let mut all: Vec<(u32, Answer)> = refusals(policy)
        .into_iter()
        .map(|Refusal { call, flags, errno }| {
            let answer = match flags {
                None => vec![fail(errno)],
                Some(flags) => vec![
                    say(LOAD, low_word_of_argument(0)),
                    test(IF_BITS, flags, 1),
                    fail(errno),
                    allow(),
                ],
            };
            (call as u32, answer)
        })
        .collect();
    // Putting characters into a terminal's input, or into a console's.
    let terminal = vec![
        say(LOAD, low_word_of_argument(1)),
        test(IF_EQUAL, libc::TIOCSTI as u32, 1),
        fail(libc::EPERM),
        test(IF_EQUAL, libc::TIOCLINUX as u32, 1),
        fail(libc::EPERM),
        allow(),
    ];
    all.push((libc::SYS_ioctl as u32, terminal));
    // Sockets of the families that a network namespace holds. Others (vsock, packet, alg) lead to the
    // hypervisor or into the kernel, whatever the namespace.
    let families: &[i32] = if policy.network_settled {
        &[libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK]
    } else {
        &[libc::AF_UNIX]
    };
    for call in [libc::SYS_socket, libc::SYS_socketpair] {
        let mut answer = vec![say(LOAD, low_word_of_argument(0))];
        for family in families {
            answer.extend([test(IF_EQUAL, *family as u32, 1), allow()]);
        }
        answer.push(fail(libc::EAFNOSUPPORT));
        all.push((call as u32, answer));
    }
    all.sort_unstable_by_key(|(call, _)| *call);
    all
}

/// How many calls are compared one after the other at the end of a search.
const LEAF: usize = 4;

/// A binary search for the call's number. The kernel runs the whole program once for each call that it knows when it
/// takes the program in, to find out which always pass: with one comparison after the other that takes half a
/// millisecond of every step.
fn search(answers: &[(u32, Answer)]) -> Vec<sock_filter> {
    let mut program = Vec::new();
    if answers.len() <= LEAF {
        for (call, answer) in answers {
            program.push(test(IF_EQUAL, *call, answer.len() as u8));
            program.extend(answer);
        }
        program.push(allow());
        return program;
    }
    let (below, above) = answers.split_at(answers.len() / 2);
    let (first, _) = above[0];
    let (below, above) = (search(below), search(above));
    // A conditional jump reaches 255 instructions far, an unconditional one anywhere.
    program.push(test(IF_AT_LEAST, first, 1));
    program.push(say(JUMP, below.len() as u32));
    program.extend(below);
    program.extend(above);
    program
}

/// Lets this process and its children start threads where a container forbids `clone3`. The C library takes the older call
/// only if the newer one is unknown, and a filter of ours that says so is heard before the container's. To be called first
/// of all, while there is one thread; it costs one system call.
pub fn adapt_to_container() {
    if kernel::clone3_is_forbidden() {
        // Without it threads cannot be started, and whoever starts the first one says so.
        let _ = without_calls(&[(libc::SYS_clone3, libc::ENOSYS)]);
    }
}

/// Makes system calls fail in this thread, and in all that it starts, for good: so look an older kernel
/// (`libc::ENOSYS`) and the rules of a container (`libc::EPERM`). For tests of what kiln does on such machines.
///
/// # Errors
/// If the kernel takes no filters.
pub fn without_calls(calls: &[(c_long, i32)]) -> io::Result<()> {
    let mut answers: Vec<(u32, Answer)> =
        calls.iter().map(|(call, errno)| (*call as u32, vec![fail(*errno)])).collect();
    answers.sort_unstable_by_key(|(call, _)| *call);
    answers.dedup_by_key(|(call, _)| *call);
    let mut program = vec![say(LOAD, NUMBER)];
    program.extend(search(&answers));
    rustix::thread::set_no_new_privs(true)?;
    kernel::install_filter(&program)
}

/// The program for `policy`.
pub(super) fn program(policy: Policy) -> Vec<sock_filter> {
    let mut program = vec![
        say(LOAD, ARCHITECTURE),
        sock_filter { code: IF_EQUAL as u16, jt: 1, jf: 0, k: NATIVE },
        fail(libc::ENOSYS),
        say(LOAD, NUMBER),
        test(IF_AT_LEAST, X32, 1),
        fail(libc::ENOSYS),
    ];
    program.extend(search(&answers(policy)));
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the program as the kernel would, on one call.
    fn verdict(policy: Policy, architecture: u32, call: u32, arguments: [u32; 6]) -> u32 {
        let program = program(policy);
        let (mut at, mut value) = (0, 0);
        loop {
            let one = program[at];
            at += 1;
            let code = u32::from(one.code);
            let jump = |holds: bool| usize::from(if holds { one.jt } else { one.jf });
            match code {
                LOAD => {
                    value = match one.k {
                        NUMBER => call,
                        ARCHITECTURE => architecture,
                        offset => arguments[(offset as usize - 16) / 8],
                    }
                }
                IF_EQUAL => at += jump(value == one.k),
                IF_AT_LEAST => at += jump(value >= one.k),
                IF_BITS => at += jump(value & one.k != 0),
                JUMP => at += one.k as usize,
                RETURN => return one.k,
                other => panic!("unknown instruction {other}"),
            }
        }
    }

    const FULL: Policy = Policy { own_pids: true, network_settled: true };

    fn errno(policy: Policy, call: c_long, arguments: [u32; 6]) -> i32 {
        match verdict(policy, NATIVE, call as u32, arguments) {
            libc::SECCOMP_RET_ALLOW => 0,
            other => (other & 0xffff) as i32,
        }
    }

    #[test]
    fn every_refusal_is_reached_and_ordinary_calls_pass() {
        for refusal in refusals(FULL) {
            let arguments = [refusal.flags.unwrap_or(0), 0, 0, 0, 0, 0];
            assert_eq!(
                errno(FULL, refusal.call, arguments),
                refusal.errno,
                "call {}",
                refusal.call
            );
        }
        for call in [libc::SYS_read, libc::SYS_execve, libc::SYS_mmap, libc::SYS_clone] {
            assert_eq!(errno(FULL, call, [0; 6]), 0);
        }
    }

    #[test]
    fn the_search_finds_each_call_that_a_plain_list_finds_and_no_other() {
        for policy in [FULL, Policy { own_pids: false, network_settled: false }] {
            let refused: Vec<u32> = refusals(policy).iter().map(|one| one.call as u32).collect();
            let answers = answers(policy);
            assert!(answers.windows(2).all(|pair| pair[0].0 < pair[1].0), "each call once");
            for call in 0..1024 {
                let passes = verdict(policy, NATIVE, call, [0; 6]) == libc::SECCOMP_RET_ALLOW;
                let by_flags = [libc::SYS_unshare, libc::SYS_clone].map(|call| call as u32);
                let by_family = [libc::SYS_socket, libc::SYS_socketpair].map(|call| call as u32);
                let expected = by_flags.contains(&call)
                    || (!refused.contains(&call) && !by_family.contains(&call));
                assert_eq!(passes, expected, "call {call}");
            }
        }
    }

    #[test]
    fn arguments_decide_where_only_some_uses_are_refused() {
        let chmod = |mode| errno(FULL, libc::SYS_fchmodat, [0, 0, mode, 0, 0, 0]);
        assert_eq!((chmod(0o4755), chmod(0o1777)), (0, 0), "the store takes the bits off");
        let clone = |flags: i32| errno(FULL, libc::SYS_clone, [flags as u32, 0, 0, 0, 0, 0]);
        assert_eq!((clone(libc::CLONE_NEWUSER), clone(libc::SIGCHLD)), (libc::EPERM, 0));
        let ioctl = |request: u32| errno(FULL, libc::SYS_ioctl, [0, request, 0, 0, 0, 0]);
        assert_eq!((ioctl(libc::TIOCSTI as u32), ioctl(libc::TCGETS as u32)), (libc::EPERM, 0));
        assert_eq!(errno(FULL, libc::SYS_unshare, [libc::CLONE_FILES as u32, 0, 0, 0, 0, 0]), 0);
    }

    #[test]
    fn sockets_follow_the_network_that_the_step_has() {
        let socket =
            |policy, family: i32| errno(policy, libc::SYS_socket, [family as u32, 0, 0, 0, 0, 0]);
        let alone = Policy { own_pids: false, network_settled: false };
        assert_eq!(socket(FULL, libc::AF_INET), 0);
        assert_eq!(socket(FULL, libc::AF_VSOCK), libc::EAFNOSUPPORT);
        assert_eq!(socket(alone, libc::AF_UNIX), 0);
        assert_eq!(socket(alone, libc::AF_INET), libc::EAFNOSUPPORT);
        assert_eq!(errno(alone, libc::SYS_ptrace, [0; 6]), libc::EPERM);
        assert_eq!(errno(FULL, libc::SYS_ptrace, [0; 6]), 0);
    }

    #[test]
    fn calls_of_another_architecture_do_not_exist() {
        let enosys = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
        assert_eq!(verdict(FULL, 0x4000_0003, 1, [0; 6]), enosys);
        assert_eq!(verdict(FULL, NATIVE, X32 | libc::SYS_mount as u32, [0; 6]), enosys);
    }
}
