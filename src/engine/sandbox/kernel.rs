//! The system calls that no safe wrapper offers, each wrapped once.
//!
//! With the filter's installation this is the only unsafe code of the engine. It is unaware of what the calls are
//! for. The calls that fork are meant for the starter, which has one thread.

use std::{
    ffi::{CStr, OsStr},
    io,
    mem::MaybeUninit,
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    time::Duration,
};

/// Flags of `mount_setattr` and of mounts, as far as they are used here.
pub(super) const MOUNT_ATTR_RDONLY: u64 = 0x1;
pub(super) const MOUNT_ATTR_NOSUID: u64 = 0x2;
pub(super) const MOUNT_ATTR_NODEV: u64 = 0x4;

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Which side of a fork this is.
#[derive(Debug)]
pub(super) enum Side {
    /// The parent, with the child's id.
    Parent(i32),
    /// The child.
    Child,
}

/// Forks a process that has one thread.
pub(super) fn fork() -> io::Result<Side> {
    // SAFETY: only the starter and its children call this, and they have one thread (they are a fresh
    // copy of the executable that went straight into `init_main`), so the child's memory is consistent.
    let pid = unsafe { libc::fork() };
    match check(pid.into())? {
        0 => Ok(Side::Child),
        _ => Ok(Side::Parent(pid)),
    }
}

/// The same for a child that is the first process of new namespaces; `flags` are `CLONE_NEW*`.
pub(super) fn fork_into(flags: i32) -> io::Result<Side> {
    let none = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: without a stack of its own and without shared memory this is a fork, and its callers have one thread, as
    // those of `fork`. What the C library does besides is to note the thread's new id, which is asked for by none of
    // what runs in the child: it locks nothing that is bound to a thread, and sends itself no signal.
    let pid = check(unsafe {
        libc::syscall(libc::SYS_clone, flags | libc::SIGCHLD, none, none, none, none)
    })?;
    match pid {
        0 => Ok(Side::Child),
        pid => Ok(Side::Parent(pid as i32)),
    }
}

/// Whether this process is forbidden to call `clone3`, rather than the kernel not knowing it.
pub(super) fn clone3_is_forbidden() -> bool {
    let none = std::ptr::null::<libc::clone_args>();
    // SAFETY: a call without arguments is invalid, and makes no process.
    let result = check(unsafe { libc::syscall(libc::SYS_clone3, none, 0) });
    result.is_err_and(|error| error.raw_os_error() == Some(libc::EPERM))
}

/// A child that ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    pub(super) pid: i32,
    /// As `wait` gives it.
    pub(super) status: i32,
    /// Its processor time, and that of the children it waited for.
    pub(super) cpu: Duration,
    /// The largest of its, and their, resident sets, in bytes.
    pub(super) largest: u64,
}

/// Waits for `pid` (or any child, for -1). `None` if `block` is off and none has ended.
pub(super) fn wait(pid: i32, block: bool) -> io::Result<Option<Ended>> {
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    let flags = if block { 0 } else { libc::WNOHANG };
    loop {
        // SAFETY: both pointers are to live locals of the right type.
        let result = unsafe { libc::wait4(pid, &mut status, flags, usage.as_mut_ptr()) };
        match check(result.into()) {
            Ok(0) => return Ok(None),
            Ok(_) => {
                // SAFETY: zeroed is a valid rusage, and the kernel has filled it in.
                let usage = unsafe { usage.assume_init() };
                let cpu = duration(usage.ru_utime) + duration(usage.ru_stime);
                let largest = u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024;
                return Ok(Some(Ended { pid: result, status, cpu, largest }));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn duration(time: libc::timeval) -> Duration {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let micros = u64::try_from(time.tv_usec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_micros(micros)
}

/// Ends this process without what a program does at its end, which is its parent's to do.
pub(super) fn leave(code: i32) -> ! {
    // SAFETY: `_exit` does not return and runs nothing of ours.
    unsafe { libc::_exit(code) }
}

/// Ends `pid`. One that is gone is no error.
pub(super) fn kill(pid: i32) {
    // SAFETY: `kill` touches no memory of ours.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

/// Stops `pid`. One that is gone is no error.
pub(super) fn stop(pid: i32) {
    // SAFETY: `kill` touches no memory of ours.
    unsafe { libc::kill(pid, libc::SIGSTOP) };
}

/// Asks for SIGKILL when the parent ends.
pub(super) fn die_with_parent() -> io::Result<()> {
    // SAFETY: this option takes a signal number and touches no memory.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) }.into()).map(drop)
}

/// Keeps other processes of the same user from reading or tracing this one.
pub(super) fn forbid_inspection() -> io::Result<()> {
    // SAFETY: this option takes a number and touches no memory.
    check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0) }.into()).map(drop)
}

/// Becomes the parent of every orphan below.
pub(super) fn adopt_orphans() -> io::Result<()> {
    // SAFETY: this option takes a number and touches no memory.
    check(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) }.into()).map(drop)
}

/// Forgets the right to every capability for good.
pub(super) fn drop_capabilities() -> io::Result<()> {
    for capability in 0..64 {
        // SAFETY: this option takes a number and touches no memory.
        let result = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability) };
        match check(result.into()) {
            Ok(_) => {}
            // The kernel's last capability has been passed, or (EPERM) this process has none to forget.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EPERM)) => break,
            Err(error) => return Err(error),
        }
    }
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    let header = Header { version: 0x2008_0522, pid: 0 };
    let none = [[0u32; 3]; 2];
    // SAFETY: version 3 of this call reads a header and two sets of three words, which these are.
    check(unsafe { libc::syscall(libc::SYS_capset, &header, none.as_ptr()) }).map(drop)
}

/// Leaves all supplementary groups, if this process may: an ordinary user may not, and keeps what is the user's own.
pub(super) fn leave_groups() {
    // SAFETY: an empty list is read from nowhere.
    unsafe { libc::setgroups(0, std::ptr::null()) };
}

/// Leaves the listed kinds of namespaces for new ones.
pub(super) fn unshare(flags: i32) -> io::Result<()> {
    // SAFETY: none of the flags that are used here (`CLONE_NEW*`) touches this process's memory or files.
    check(unsafe { libc::unshare(flags) }.into()).map(drop)
}

/// Sets `attributes` on the mount `tree`, and on all below it if `recursive`. Mounts made elsewhere do not show in it.
pub(super) fn mount_setattr(
    tree: BorrowedFd<'_>,
    recursive: bool,
    attributes: u64,
) -> io::Result<()> {
    let attr = libc::mount_attr {
        attr_set: attributes,
        attr_clr: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: 0,
    };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a C string, and the attributes a live struct whose size is handed over.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &attr,
            size_of::<libc::mount_attr>(),
        )
    };
    check(result).map(drop)
}

/// Closes every descriptor from `first` on when the next program begins.
pub(super) fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: marking descriptors closes none now, so none of the values that own them is invalidated.
    let result =
        unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    match check(result) {
        Ok(_) => Ok(()),
        // Kernels before 5.11: one by one.
        Err(_) => {
            for entry in std::fs::read_dir("/proc/self/fd")? {
                let Some(fd) =
                    entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok())
                else {
                    continue;
                };
                if fd >= first as i32 {
                    // SAFETY: as above; a descriptor that is gone meanwhile gives an error that is ignored.
                    unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
                }
            }
            Ok(())
        }
    }
}

/// A descriptor that is readable when a child has ended. From now on SIGCHLD arrives nowhere else.
pub(super) fn child_events() -> io::Result<OwnedFd> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigemptyset` initialises the set before it is used; the pointers are to live locals.
    let fd = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGCHLD);
        libc::sigprocmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut());
        libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
    };
    check(fd.into())?;
    // SAFETY: the kernel has just handed out this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Undoes what [`child_events`] did to this process's signals, and whatever was inherited.
pub(super) fn reset_signals() {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the set is initialised before it is used. The default action is no handler of ours, so no code
    // runs in a signal's context.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, set.as_ptr(), std::ptr::null_mut());
        for signal in 1..=64 {
            libc::signal(signal, libc::SIG_DFL);
        }
    }
}

/// Switches the loopback device of this network namespace on.
pub(super) fn raise_loopback(socket: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: all-zero bytes are a valid request.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: this request reads an `ifreq`, which `request` is.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &request) }.into()).map(drop)
}

/// Forbids core files.
pub(super) fn no_core_files() -> io::Result<()> {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the limit is a live local.
    check(unsafe { libc::setrlimit(libc::RLIMIT_CORE, &none) }.into()).map(drop)
}

/// Sets the file mode creation mask of a process that has one thread.
pub(super) fn set_umask(mask: u32) {
    // SAFETY: `umask` touches no memory.
    unsafe { libc::umask(mask) };
}

/// Installs a filter of system calls for good. The process must have given up new privileges before.
pub(super) fn install_filter(program: &[libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(io::Error::other)?,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: the program is a live slice of that length, which the kernel copies and does not write to.
    let result = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) };
    check(result.into()).map(drop)
}

/// Whether the kernel knows filters of system calls: a null program is then a bad address.
pub(super) fn filters_work() -> io::Result<()> {
    let none = std::ptr::null::<libc::sock_fprog>();
    // SAFETY: the kernel refuses the null pointer without reading through it.
    let result = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, none) };
    match check(result.into()) {
        Err(error) if error.raw_os_error() == Some(libc::EFAULT) => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Ok(()),
    }
}

/// The first fields of Landlock's ruleset attributes.
#[repr(C)]
pub(super) struct Ruleset {
    pub(super) files: u64,
    pub(super) network: u64,
    pub(super) scoped: u64,
}

#[repr(C, packed)]
struct PathBeneath {
    allowed: u64,
    parent: i32,
}

/// The version of Landlock that the kernel speaks.
pub(super) fn landlock_version() -> io::Result<u32> {
    let none = std::ptr::null::<Ruleset>();
    // SAFETY: with the version flag the kernel reads no attributes.
    let version = check(unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, none, 0, 1) })?;
    u32::try_from(version).map_err(io::Error::other)
}

/// An empty Landlock ruleset of `size` bytes of attributes.
pub(super) fn landlock_ruleset(attributes: &Ruleset, size: usize) -> io::Result<OwnedFd> {
    let size = size.min(size_of::<Ruleset>());
    // SAFETY: the attributes are live and at least `size` bytes long.
    let fd =
        check(unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, attributes, size, 0) })?;
    // SAFETY: the kernel has just handed out this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Allows `allowed` on `path` and all below it.
pub(super) fn landlock_allow(
    ruleset: BorrowedFd<'_>,
    path: BorrowedFd<'_>,
    allowed: u64,
) -> io::Result<()> {
    let rule = PathBeneath { allowed, parent: path.as_raw_fd() };
    // SAFETY: rule type 1 reads this (packed) struct.
    let result = unsafe {
        libc::syscall(libc::SYS_landlock_add_rule, ruleset.as_raw_fd(), 1, &raw const rule, 0)
    };
    check(result).map(drop)
}

/// Puts this process and its children under `ruleset`.
pub(super) fn landlock_restrict(ruleset: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the call takes a descriptor and a number.
    let result = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0) };
    check(result).map(drop)
}

/// Replaces this process by `program`. Returns only if that fails.
pub(super) fn execute(program: &CStr, argv: &[&CStr], env: &[&CStr]) -> io::Error {
    let argv: Vec<_> = argv.iter().map(|one| one.as_ptr()).chain([std::ptr::null()]).collect();
    let env: Vec<_> = env.iter().map(|one| one.as_ptr()).chain([std::ptr::null()]).collect();
    // SAFETY: both lists consist of C strings that outlive the call, and end with a null pointer.
    unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// `text` as a C string.
pub(super) fn c_string(text: &OsStr) -> io::Result<std::ffi::CString> {
    std::ffi::CString::new(text.as_bytes()).map_err(io::Error::other)
}

/// Processor time and largest resident set of the children that ended and were waited for.
pub(super) fn usage_of_children() -> (Duration, u64) {
    // SAFETY: all-zero bytes are a valid rusage; the pointer is to a live local.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_CHILDREN, &mut usage);
        usage
    };
    let cpu = duration(usage.ru_utime) + duration(usage.ru_stime);
    (cpu, u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024)
}
